"""The package on a GPU: the CPU's values, no wait in training, runs that change device.

Where there is none, tests/pretend_gpu.py stands in for it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import addlib
from addlib import device as devices
from addlib import stats
from addlib.analysis import (
    ablation,
    activations,
    answers,
    attribution,
    carry_parts,
    carry_plane,
    carry_rivals,
    digit_grid,
    foretelling,
    lead_bound,
    naive_sums,
    pair_tables,
    place_axes,
    roles,
    sight,
    state_exchange,
)
from addlib.analysis.ablation import COMPONENTS, Ablation
from addlib.figures import drawings, heatmaps
from addlib.figures.carry_form import lattice_of
from addlib.figures.thin import as_array
from addlib.geometry import (
    angles,
    clock_pizza,
    components,
    fourier,
    number_codes,
    pair_portrait,
    progress_measures,
    quadrature,
)
from addlib.llm import carries, direct, grading, neuron_rules
from addlib.llm.digit_swaps import swap_digits
from addlib.llm.faulty_metric import OneRowMetric
from addlib.llm.inventory import inventory
from addlib.llm.knock_outs import groups_of, knock_outs
from addlib.llm.late_neurons import LateNeurons
from addlib.llm.load import LLM, RANDOM, load_llm
from addlib.llm.neurons import matched, rank_neurons
from addlib.llm.pairs import estimated_effects, prompt_pairs, restored_by_streams
from addlib.llm.prompts import ADD, encode, few_shot, problems
from addlib.models import fast_addition
from addlib.models import pairs as pair_models
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.attention_tables import AttentionTables
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, aligned_weights
from addlib.models.fast_answers import FastReadout
from addlib.models.pairs import PairForward, PairModelConfig, build_pair_model
from addlib.models.state_dicts import classic_state_dict, read_state_dict
from addlib.patching import summaries
from addlib.patching.agreement import Agreement, rank_agreement
from addlib.patching.gradient import attribution_patch
from addlib.patching.groups import GroupPatches, strongest_groups
from addlib.patching.noise import embedding_noise
from addlib.patching.relevance import LOOKING, relevance_patch
from addlib.patching.sites import KINDS
from addlib.patching.suffix_forward import ShortForward
from addlib.patching.sweep import Patcher
from addlib.tasks import sampling, subtasks
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.pairs import PairTask
from addlib.training import together
from addlib.training.addition import TrainConfig
from addlib.training.opened import FileConfig, ModelSource
from addlib.training.pairs import PairConfig, PairHistory
from addlib.training.runs import RunConfig, load_or_train, load_or_train_all
from addlib.training.stacked import StackedTrainer, stacked_trainer
from addlib.training.trainer import BaseTrainer
from tiny_llm import save_folder

pytestmark = pytest.mark.depends_on("addlib/**/*.py")

TASK = AdditionTask(3)
SHAPE = ModelConfig(n_heads=3, width=24)
PAIRS = PairTask(7, modular=True)
PAIR_SHAPE = PairModelConfig(n_heads=2, width=16)
FIXTURES = Path(__file__).parent / "compat" / "fixtures"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(count: int = 40, device: str = "cpu", task: AdditionTask = TASK) -> Questions:
    """Uniform questions, drawn on the CPU."""
    return sampling.uniform_questions(task, count, torch.Generator().manual_seed(1)).to(device)


# ------------------------------------------------------------- the same on both devices
WITHOUT_GRADIENT = "attn.k.bias"
"""Weights that attention does not depend on: AdamW enlarges their gradient, which is rounding."""


def assert_same(result: Any, expected: Any, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    """Both hold the same numbers, whatever the device and up to rounding."""
    if isinstance(expected, Tensor):
        assert result.dtype == expected.dtype
        close = {"atol": atol, "rtol": rtol, "equal_nan": True}
        assert torch.allclose(result.detach().cpu(), expected.detach(), **close)
    elif isinstance(expected, dict):
        assert result.keys() == expected.keys()
        for name in expected:
            if WITHOUT_GRADIENT not in str(name):
                assert_same(result[name], expected[name], atol, rtol)
    elif isinstance(expected, list | tuple):
        assert len(result) == len(expected)
        for part, expected_part in zip(result, expected, strict=True):
            assert_same(part, expected_part)
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(result, field.name), getattr(expected, field.name))
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(result, expected, atol=1e-5)
    elif isinstance(expected, float):
        assert result == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)
    else:
        assert np.array_equal(result, expected)


def task_of_digits(device):
    values = torch.tensor([0, 47, 999], device=device)
    digits = TASK.digits(values)
    questions = asked(device=device)
    labels = ("carry", "answer", "mc1", "ms9", "uc1", "us9", "bucket", "us9_run")
    return [
        digits,
        TASK.value(digits),
        TASK.by_column(digits),
        TASK.text(questions.tokens[0]),
        [getattr(questions, name) for name in labels],
        [questions.cascade_length, questions.question_class, questions[questions.us9.any(1)]],
    ]


def task_of_pairs(device):
    pairs = PAIRS.pairs().to(device)
    return [PAIRS.tokens(pairs), PAIRS.answers(pairs)]


def samples(device):
    generator = torch.Generator().manual_seed(2)
    cascades = sampling.cascade_questions(TASK, 1, 20, generator).to(device)
    return [
        sampling.joined([cascades, asked(device=device)]),
        sampling.without_carry(cascades),
        sampling.above_cascade(cascades),
    ]


def sub_tasks(device):
    questions = asked(device=device)
    source = asked(80)[40:].to(device)
    key = subtasks.key(questions)
    return [
        subtasks.base_sum(questions),
        subtasks.tri_state(questions),
        subtasks.tri_state_of_second(questions),
        subtasks.second_pair_key(questions),
        key,
        subtasks.digit_of_key(key, TASK.base),
        subtasks.look_back(questions, 1),
        subtasks.with_pair_of(questions, source, -1),
        subtasks.mistakes(questions, (questions.answer + 1) % TASK.base),
    ]


def intervals(device):
    answer = asked().answer.to(device)
    return [
        stats.answer_nll(drawn(40, 4, 12).to(device), answer),
        stats.bootstrap_interval(drawn(50).to(device), draws=100),
        stats.resampled_interval(lambda rows: drawn(50).to(device)[rows].mean().item(), 50),
        stats.bootstrap_of(torch.min, drawn(50, 3).to(device), draws=100),
        stats.keeps_sign(drawn(3, 50).to(device), drawn(3, seed=1).to(device)),
        stats.extreme_share(drawn(3, 50).to(device), drawn(3, 50, seed=1).to(device) > 0, draws=20),
    ]


def sums_without_carries(device):
    questions = asked(device=device)
    logits = drawn(40, 4, 12).to(device)
    p = logits.softmax(-1)
    return [
        naive_sums.leakage(p, questions),
        naive_sums.candidates(p, questions),
        naive_sums.decompose(logits, questions, 1),
        naive_sums.excess([logits, 2 * logits], questions, 1),
        naive_sums.confusion(p, questions, 1),
        naive_sums.carry_log_odds(logits, questions),
    ]


def angles_in_a_plane(device):
    rows, order = drawn(12, 5).to(device), torch.arange(12.0, device=device)
    plane = angles.fit_plane(rows, order)
    labels = torch.arange(12, device=device) % 3
    return [
        plane,
        plane.points(rows),
        plane.angles(rows),
        plane.turned(rows, 0.1 * order),
        angles.unwrapped(2 * order),
        angles.nearest_direction(rows, rows[:4]),
        angles.means_by(rows, labels),
    ]


def shapes(device):
    rows, order = drawn(12, 5).to(device), torch.arange(12.0, device=device)
    found = components.pca(rows)
    fit = components.fit_linear(rows[:, :2], rows)
    return [
        found,
        found.keep([0]),
        found.remove([0, 1]),
        components.closing(rows),
        components.correlation(order, rows[:, 0]),
        fit,
        fit.predict(rows[:, :2]),
        components.fit_parabola(order, rows[:, 0]),
        components.winning_angles(rows[:, :2]),
        components.readout_r2(rows, order),
    ]


def probes(device):
    rows, order = drawn(12, 5).to(device), torch.arange(12.0, device=device)
    return [components.probe(rows, order, folds=3, shuffles=2, groups=order.long() // 2)]


def waves(device):
    number = torch.arange(11, device=device)
    planted = torch.stack([(2 * torch.pi * k * number / 11).cos() for k in (2, 3)], 1)
    table = planted @ drawn(2, 6).to(device) + 0.01 * drawn(11, 6).to(device)
    of_pairs = planted[:, None] * planted + 0.1 * drawn(11, 11, 2).to(device)
    neurons = fourier.neuron_frequencies(of_pairs)
    return [
        fourier.fourier_norms(table),
        fourier.frequency_shares(table),
        fourier.null_share(table, draws=20),
        fourier.key_frequencies(table, least=0.01),
        fourier.component_cosines(table, [2, 3]),
        fourier.frequency_plane(table, 2),
        fourier.ring(table, 2),
        fourier.frequency_part(table, [2, 3]),
        fourier.turning(planted, 2),
        fourier.gini(table.abs()),
        fourier.fourier_2d(of_pairs),
        neurons,
        neurons.clusters(0.1),
    ]


def codes_of_numbers(device):
    numbers = torch.arange(10, 60, device=device)
    codes = {"helix": number_codes.helix(numbers), "line": number_codes.polynomial(numbers, 1)}
    rows = drawn(50, 12).double().to(device)
    folds = torch.arange(50, device=device) % 5
    return [
        codes,
        number_codes.reconstructions(rows, codes, folds > 0, folds == 0),
        number_codes.held_out_r2(rows, codes, folds),
        number_codes.explained_at_best(
            [number_codes.held_out_misses(rows, codes, folds)], "helix", folds < 4
        ),
        number_codes.linear_r2(torch.stack([rows, rows.cos()]), codes["line"], folds),
        number_codes.permuted_digits(numbers, torch.Generator().manual_seed(8)),
    ]


def progress(device):
    logits = drawn(7, 7, 7).to(device)
    order = torch.randperm(49, generator=torch.Generator().manual_seed(3))
    train = order[:20]
    return [
        progress_measures.mean_by_sum(logits),
        progress_measures.sum_waves(logits, [1, 2]),
        progress_measures.formula_logits(drawn(2).to(device), [1, 2], 7),
        progress_measures.fit_cosines(logits, [1, 2]),
        progress_measures.distance_share(logits),
        progress_measures.restricted_logits(logits, [1, 2]),
        progress_measures.restricted_logits(logits, [1, 2], train),
        progress_measures.restricted_neurons(logits, 2 * logits, [1, 2]),
        progress_measures.answer_waves(logits, [1, 2]),
        progress_measures.loss_by_sum(logits[0], train),
        progress_measures.right_by_sum(logits[0], train),
        progress_measures.formula_loss(logits, [1, 2], train),
        progress_measures.excluded_loss(logits, [1, 2], train),
        progress_measures.squared_norm({"a": logits, "b": logits}),
    ]


def clock_or_pizza(device):
    logits, rows = drawn(7, 7, 7).to(device), drawn(7, 4).to(device)
    triples = clock_pizza.some_triples(7)

    def answer(first, second):
        return (first * second) @ rows.T

    return [
        clock_pizza.distance_irrelevance(logits),
        clock_pizza.height_by_angle(logits, 2),
        clock_pizza.gradient_cosines(answer, rows, rows, triples),
        clock_pizza.circularity(drawn(7, 6).to(device)),
    ]


def clusters_of_neurons(device):
    pre, W_L = drawn(7, 7, 5).to(device), drawn(7, 5).to(device)
    cluster = quadrature.Cluster.of(pre, W_L, 2)
    return [
        cluster.phase_match,
        cluster.direction,
        cluster.stretches,
        cluster.quadrature(7),
        quadrature.product_share(pre),
        quadrature.reading_only(pre, [1, 2]),
        quadrature.doubled_in_step(pre[0], 1),
    ]


def progress_of_checkpoints(device):
    logits = drawn(7, 7, 7).to(device)
    order = torch.randperm(49, generator=torch.Generator().manual_seed(3))
    return [progress_measures.measure([logits, 2 * logits], [1], order[:20], order[20:])]


def pictures(device):
    shares = drawn(2, 4, 3).to(device).softmax(-1)
    figure = heatmaps.heat_map(
        shares[0],
        x=range(3),
        y=range(4),
        x_title="pair (column)",
        y_title="digit (column)",
        z_title="attention (share)",
    )
    return [
        as_array(shares, "shares"),
        figure.to_json(),
        drawings.sum_picture(asked(device=device)),
        drawings.token_picture(asked(device=device)),
        drawings.model_picture(asked(device=device), column=1),
        drawings.staircase_picture(shares, ["carry", "base add"], TASK),
    ]


def model_of(device: str, n_layers: int = 1, attn_only: bool = False) -> Any:
    """A model whose weights are larger than at birth, in training mode as it is built."""
    shape = replace(SHAPE, n_layers=n_layers, attn_only=attn_only)
    model = build_model(shape, TASK, 5, device)
    with torch.no_grad():
        for seed, p in enumerate(weights(model).values()):
            p.add_(0.3 * drawn(*p.shape, seed=seed).to(device))
    return model


def models_of_digits(device):
    tokens = asked(device=device).tokens
    results = []
    for n_layers, attn_only in ((1, False), (1, True), (2, False)):
        model = model_of(device, n_layers, attn_only)
        assert {p.device.type for p in model.parameters()} == {device}
        results += [weights(model), answer_logits(model, TASK, tokens)]
        if fast_addition.covers(model.cfg):
            results.append(FastForward(weights(model), model.cfg, TASK)(tokens))
            aligned = aligned_weights(model)
            results += [aligned, FastForward(aligned, model.cfg, TASK)(tokens)]
    return results


def short_answers(device):
    model = model_of(device)
    tokens = asked(400, device).tokens
    readout = FastReadout(FastForward(weights(model), model.cfg, TASK), tokens)
    logits = readout(tokens)
    return [logits.argmax(-1), readout.unsafe(logits)]


def models_of_pairs(device):
    pairs = PAIRS.pairs().to(device)
    model = build_pair_model(PAIR_SHAPE, PAIRS, 5, device, biases=True)
    values = weights(model)
    logits = PairForward(values, PAIR_SHAPE, PAIRS)(pairs)
    paths = pair_models.pair_paths(values, PAIR_SHAPE, PAIRS)
    history = PairHistory(*drawn(5, 4).to(device))
    number_rows = values["embed.weight"][: PAIRS.p]
    plane = angles.fit_plane(paths.mid, PAIRS.answers(pairs))
    neurons = pair_portrait.plane_neurons(values, plane)
    told = {"keys": number_rows.flip(0), "values": number_rows, "direct": 2 * number_rows}
    return [
        values,
        logits,
        pair_models.pair_logits(model, PAIRS, pairs),
        pair_models.loss_and_gradient(logits, PAIRS.answers(pairs)),
        pair_models.accuracy(logits, PAIRS.answers(pairs)),
        paths,
        pair_models.pair_paths(values, PAIR_SHAPE, PAIRS, **told),
        pair_models.pair_paths(values, PAIR_SHAPE, PAIRS, pattern=paths.pattern[:1]),
        pair_models.logits_from(values, paths.mid),
        [*pair_portrait.portrait(values, PAIR_SHAPE, PAIRS).values()],
        pair_portrait.wedges(values, plane, 90),
        neurons.logits(plane.points(paths.mid)),
        neurons.merged(neurons.sectors(6)),
        history.first_right(history.accuracy, 0.1),
        pair_models.embedded_logits(values, PAIR_SHAPE, number_rows, number_rows.flip(0)),
    ]


def models_from_files(device):
    """As they are in the file, and afresh."""
    state = read_state_dict(FIXTURES / "addition.pth")
    source = ModelSource(state.path, state.sha256, "", state)
    fresh = FileConfig(AdditionTask(2, base=6), state.shape, seed=3, source=source)
    return [weights(model) for model in (state.build(device), fresh.build(device))]


def models_for_files(device):
    return [classic_state_dict(model_of(device))]


def answers_and_activations(device):
    questions = asked()
    results = []
    for n_layers in (1, 2):
        model = model_of(device, n_layers)
        name = "blocks.0.hook_resid_post"
        results += [
            answers.answer(model, questions, batch_size=16),
            answers.write_out(model, questions, batch_size=16),
            activations.activations(model, name, questions),
            activations.answer_activations(model, [name], questions),
            roles.answer_patterns(model, questions),
            roles.find_roles(model, questions),
        ]
    return results


def attention_on_pairs(device):
    patterns = roles.answer_patterns(model_of(device), asked()).to(device)
    shares = roles.pair_attention(patterns, TASK)
    cells = digit_grid.digit_grid(TASK, 1, 2, torch.Generator().manual_seed(4))
    sums = digit_grid.over_grid((cells.x + cells.y).double().to(device), TASK.base)
    explained = digit_grid.explained_by(sums, sums[:, :, 1].long())
    looking = roles.heads_at(patterns.mean(0), TASK, -1)
    found = roles.addresses(patterns[0, 0], TASK)
    return [shares, roles.stairs(shares), found, looking, sums, explained]


def ablations(device):
    model = model_of(device)
    questions = asked()
    results = []
    for component in COMPONENTS:
        head = 1 if component in ("z", "v") else None
        for method in ("zero", *ablation.METHODS):
            taken = Ablation(component, head, positions=[2, 7], method=method)
            hooks = ablation.hooks(model, [taken], asked(80)[40:])
            results.append(answers.answer(model, questions, hooks))
    half = [Ablation("z", 1, method="swap", share=0.5)]
    paths = ablation.past_and_through_mlp(model, half, questions, asked(80)[40:])
    return results + [answers.answer(model, questions, hooks) for hooks in paths]


def carries_from_afar(device):
    said = sight.says_carry(model_of(device), TASK, 2, 1, 20, torch.Generator().manual_seed(6))
    return [said, sight.sight(said)]


def states_of_pairs(device):
    questions = asked(device=device)
    other = (state_exchange.state_of(questions, 1) + 1) % state_exchange.STATES
    generator = torch.Generator().manual_seed(9)
    return [
        other,
        state_exchange.with_state(questions, 1, other),
        state_exchange.sources(questions, 1, questions.y[:, 1], other, generator),
    ]


def states_of_pairs_exchanged(device):
    model = model_of(device, n_layers=2)
    generator = torch.Generator().manual_seed(10)
    return [
        state_exchange.written_with(model, asked(), asked(80)[40:], position=6),
        state_exchange.as_foretold(model, asked(), 1, asked(80)[40:], asked().answer + 1),
        lead_bound.only_in_sight(asked(), 1),
        state_exchange.exchange_states(model, asked(), 1, generator),
        state_exchange.where_states_are(model, asked(10), generator),
    ]


def axes_of_places(device):
    model = model_of(device)
    axis = place_axes.axis_of(model, TASK, 3, 0, seed=1)
    questions = asked(10)
    silent = [place_axes.nines_silenced(model, questions, 2, of) for of in (axis, None)]
    return [
        axis,
        *[answers.answer(model, questions, [hook]) for hook in silent],
        place_axes.nine_spread(model, TASK, 3, 1, axis, seed=1),
        place_axes.drowned(model, TASK, 3, seed=1),
    ]


def carries_before_the_mlp(device):
    model = model_of(device)
    questions = asked(400)
    tables = AttentionTables.of(model, TASK, 2)
    stream = tables(questions)
    axes = carry_plane.fit_axes(stream, questions, 2)
    logits = carry_plane.logits_after(model, stream)
    sample = carry_plane.CarrySample(questions, 2, stream, logits.argmax(-1))
    u = axes.rest(stream, sample.own) @ axes.line
    outside = carry_plane.directions_outside(stream, axes.plane, 2)
    partners = carry_plane.partners(sample.groups, torch.Generator().manual_seed(7))
    other = carry_plane.exchanged(stream, stream[partners], axes.plane)
    values = torch.linspace(-1, 1, 5)
    points = axes.rest(stream, sample.own) @ axes.plane
    told = carry_parts.corners(points, sample.cells, sample.more)
    parts = carry_parts.replaced(sample, tables, axes, (2, 1, 0), points + 1, told, partners)
    return [
        tables,
        stream,
        axes,
        logits,
        carry_plane.axes_by_head(tables, axes, questions),
        carry_plane.share_between(stream, sample.cells),
        carry_plane.crosses_once(model, sample, axes.line, u, values),
        outside.abs(),  # their signs are free
        other,
        carry_plane.readout_line(sample, axes),
        *carry_rivals.observers(sample).values(),
        carry_rivals.curved_boundary(sample, sample, axes.plane),
        parts,
        [carry_parts.outcome(model, sample, part) for part in parts.values()],
        lattice_of(sample, axes, axes.line, shown=20),
    ]


def mistakes_foretold(device):
    stream = drawn(40, SHAPE.width).to(device)
    sample = carry_plane.CarrySample(asked(device=device), 2, stream, stream[:, :10].argmax(-1))
    margin = stream[:, 0]
    mistaken = stream[:, 1] > 0
    return [
        foretelling.mistakes_called(sample, {"u": margin}),
        foretelling.surest_wrong(mistaken, margin.abs(), most=5),
        foretelling.by_sureness(margin.abs()),
        foretelling.one_each(mistaken, torch.Generator().manual_seed(11), most=5),
        carry_parts.outcome(model_of(device), sample, stream),
    ]


def bounds_of_leads(device):
    model = model_of(device)
    tokens = asked(1, device).tokens[0, : TASK.answer_positions.start + 1]
    digit = int(model(tokens[None])[0, -1].argmax())
    bound = lead_bound.LeadBound(model, TASK, TASK.n_digits)
    known = bound(tokens, digit)
    assert known > 0
    tokens[0] = -1
    held = [drawn(2).exp(), drawn(2, 4), drawn(2, 3, 5).exp(), drawn(2, 3, 5, 4)]
    means = lead_bound.Means(*(tensor.to(device) for tensor in held), rounds=2)
    low = drawn(6).to(device)
    return [
        known,
        bound(tokens, digit, splits=1),
        means.most(),
        means.along(drawn(3, 2).to(device), 3).least(),
        lead_bound.relu_bound(drawn(5, 6).to(device), low, low.abs() + 1),
    ]


def carries_from_tables(device):
    questions = asked(400)
    tables = AttentionTables.of(model_of(device), TASK, 2)
    axes = carry_plane.fit_axes(tables(questions), questions, 2)
    along = tables.along(axes.line[:, None])
    fitted = pair_tables.fit_pair_tables(along(questions), questions, 2)
    own = carry_plane.own_sum(questions, 2)
    out = carry_plane.carry_out(questions, 2)
    theta = pair_tables.fit_thresholds(fitted(questions)[:, 0], own, out, questions.carry[:, 2], 19)
    columns = range(1, TASK.n_digits + 1)
    program = pair_tables.CarryProgram(
        TASK, dict.fromkeys(columns, fitted), dict.fromkeys(columns, theta)
    )
    return [
        along,
        fitted,
        pair_tables.tables_from_weights(tables),
        pair_tables.line_from_weights(fitted),
        theta,
        program.margin(questions, 2),
        program.predict(questions),
    ]


def parts_of_logits(device):
    questions = asked()
    twin = attribution.folded(model_of(device))
    wrong = (questions.answer + 1) % TASK.base
    return [
        attribution.attribute(twin, questions, wrong),
        attribution.attribute_neurons(twin, questions, wrong),
    ]


def language_model(device: str, seed_of_pairs: int = 0) -> tuple[LLM, Any]:
    """A random language model, and pairs of prompts for it."""
    llm = load_llm(RANDOM, device=device)
    form = few_shot(count=2)
    pairs = prompt_pairs(form, llm.tokenizer, problems((1, 1), 30), 0, seed=seed_of_pairs)
    return llm, pairs.first(3)


def grades(device):
    llm, _ = language_model(device)
    form = few_shot(count=2)
    graded = grading.grade(llm, form, problems((1, 1), 12), batch_size=5)
    return [
        llm.device.type == device,
        graded,
        graded.by_place(),
        grading.share(torch.tensor([True, False], device=device)),
        grading.digit_ranks(llm, few_shot(count=2), (6, 7), count=3),
        grading.check_able(llm, graded, least=0.5),
        grading.able(llm, graded),
        graded.some(torch.tensor([2, 0])).right,
        graded.lead_of_ends(torch.arange(12)),
        [carries.answer_logits(llm, few_shot(ADD, 2), part) for part in carries.twins(2, 1, 3)],
    ]


def answers_after_a_shared_start(device):
    llm, pairs = language_model(device)
    return [grading.SharedStart(llm, few_shot(count=2))(pairs.clean, last=2)]


def ends_of_prompts(device):
    llm, pairs = language_model(device)
    start = grading.SharedStart(llm, few_shot(count=2))
    names = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]
    return [
        start.at_end(pairs.clean, batch_size=2),
        start.activations(pairs.clean, names),
        inventory(llm, "6*7="),
        pairs.where(torch.tensor([True, False, True])).clean,
    ]


def effects_on_logits(device):
    llm, pairs = language_model(device)
    written = direct.written_at_end(llm.bridge, pairs.clean)
    columns = llm.bridge.W_U.detach().T
    direction = columns[pairs.right.to(device)] - columns[pairs.wrong.to(device)]
    return [
        written,
        written.stream,
        written.along(direction),
        written.lens_along(direction, llm.bridge.cfg.eps),
        direct.heads_along(llm.bridge, written, direction),
        direct.lens_table(llm.bridge, llm.tokenizer, encode(llm.tokenizer, ["6*7="]), due=4),
        direct.copying(llm.bridge, 1, 0, torch.arange(6)),
        OneRowMetric.of(llm.tokenizer, [12, 408])(drawn(2, 40).to(device)),
        carries.Writes(torch.arange(10), torch.tensor([3, 4]))(drawn(2, 40).to(device)),
    ]


def carries_in_sight(device):
    logits = drawn(2, 30, 2, 10).to(device)
    due = logits.argmax(-1).clamp(max=8)
    seen = carries.Sight.of(*zip(logits, due, strict=True))
    assert 0 < seen.usable.sum() < 30
    return [seen, seen.d_prime(), seen.d_prime(seen.said[0])]


def rules_of_neurons(device):
    activations = drawn(40, 6).to(device)
    classes = {n: torch.arange(40, device=device) % n for n in (2, 3)}
    fit = torch.arange(40, device=device) < 25
    return [
        neuron_rules.class_means(activations, classes[3], fit),
        neuron_rules.explained(activations, classes, fit),
        neuron_rules.best_rules(activations, classes, fit),
        neuron_rules.separation(torch.stack([activations, activations.cos()]), classes[2]),
    ]


def neurons_at_the_end(device):
    llm, pairs = language_model(device)
    start = grading.SharedStart(llm, few_shot(count=2))
    neurons = rank_neurons(start, pairs.clean, pairs.difference)
    hooks = neurons.only(torch.arange(10))
    logits = start(pairs.clean, hooks=hooks)
    alike = matched(neurons.means.abs(), torch.arange(5, device=device), neurons.ranked[:10])
    return [neurons.means, neurons.importance.to(device), logits, alike]


def late_neurons(device):
    llm, pairs = language_model(device)
    form = few_shot(count=2)
    asked = problems((2, 1), 40, without=form.shots)
    late = LateNeurons.over(llm, form, asked, batch_size=16)
    generator = torch.Generator().manual_seed(0)
    ranked = rank_neurons(late.start, pairs.clean, pairs.difference)
    chosen = late.most_important(ranked, 12)
    by = {name: neuron_rules.rules(form, asked)[name] for name in ("b", "last digit of a")}
    fit = torch.arange(len(asked)) % 2 == 0
    typed = neuron_rules.best_rules(late.of(chosen), by, fit)
    typed = replace(typed, share=torch.ones(12))  # all are typed
    lost = knock_outs(late, chosen, typed, by, fit, most=2)
    sums = [(a, b) for a in range(11, 21) for b in (23, 38, 57)]
    swaps = swap_digits(llm, carries.sums_form(2, 2), sums, 10, generator, 16)
    return [
        late.logits,
        late.random_beside(chosen, generator),
        groups_of(chosen, typed),
        lost.falls,
        lost.specificity(),
        lost.beside_random(),
        [*swaps.moved.values()],
        swaps.changed,
        swaps.own_digit(),
    ]


def carries_exchanged(device):
    llm, _ = language_model(device)
    form = carries.sums_form(2, 2)
    moved = carries.exchange_carries(llm, form, 12, 0, 8)
    return [
        moved.at_operand,
        moved.at_equals,
        moved.same_digit,
        moved.kept,
        moved.by_chance,
        carries.at_best(moved.at_operand),
        carries.Sight.measured(llm, form, 2, 1, 4).said,
    ]


def pairs_a_few_at_a_time(device):
    llm, pairs = language_model(device)
    start = grading.SharedStart(llm, few_shot(count=2))
    return [
        estimated_effects(relevance_patch, llm.bridge, ["mlp_out"], pairs, batch_size=2),
        restored_by_streams(start, pairs, [0, 1], slice(0, 2)),
    ]


def summaries_of_sweeps(device):
    effects = drawn(6, 4).to(device)
    both = Agreement(
        {"exact": {"z": effects}, "noisy": {"z": effects + drawn(6, 4, seed=1).to(device)}}
    )
    in_tasks = summaries.InTasks({"first": effects.abs(), "other": effects})
    return [
        both.mean("noisy", "z"),
        both.fit("noisy", "z"),
        both.lead("exact", "noisy", ["z"]),
        summaries.correlation(effects, effects.abs()),
        rank_agreement(effects, drawn(6, 4, seed=2).to(device)),
        summaries.of_means(summaries.correlation, effects, effects.abs())(),
        in_tasks.beside("other"),
        in_tasks.cells(slice(0, 3)).sums(),
        summaries.by_third(effects, effects.abs(), summaries.head_names(6, 4)),
        summaries.leads_over_alike(effects, effects.abs(), torch.arange(4, device=device) % 2),
        strongest_groups(effects.abs(), 2),
        summaries.crossing(effects[:, 0]),
        summaries.late_share(effects[:, 0]),
    ]


def patches(device, kinds=KINDS):
    llm, pairs = language_model(device)
    patcher = Patcher(llm.bridge, pairs.corrupted, pairs.clean, batch_size=16)
    few = pd.DataFrame({"layer": [0, 1], "pos": [12, 15]})
    results = [patcher.exchanged().baseline(pairs.difference)]
    noise = embedding_noise(llm.bridge, pairs.clean, pairs.clean != pairs.corrupted)
    noised = Patcher(llm.bridge, pairs.clean, pairs.clean, batch_size=16, noise=noise)
    of_groups = GroupPatches.of(noised, pairs.difference, [(1, 0), (0, 1)])
    results += [noise, noised.baseline(pairs.difference), of_groups.z, of_groups.v]
    results.append(of_groups.rank(1, 0))
    sweeps = [patcher.sweep(kind, pairs.metrics) for kind in kinds]
    sweeps.append(patcher.sweep("resid_pre", pairs.difference, index_df=few))
    sweeps += attribution_patch(
        llm.bridge, list(kinds), pairs.corrupted, pairs.clean, pairs.difference
    ).values()
    acting = [kind for kind in kinds if kind not in LOOKING]
    sweeps += relevance_patch(
        llm.bridge, acting, pairs.corrupted, pairs.clean, pairs.difference
    ).values()
    return results + [part for sweep in sweeps for part in (sweep.values, sweep.baseline)]


def runs_of_prompts(device):
    llm, pairs = language_model(device)
    forward = ShortForward(llm.bridge)
    tokens = pairs.clean.to(device)
    forward.check(tokens)
    return [forward.run(tokens).values, pairs.difference(llm.bridge(tokens)[:, -1])]


ROOMS = (
    task_of_digits,
    task_of_pairs,
    samples,
    sub_tasks,
    intervals,
    sums_without_carries,
    angles_in_a_plane,
    shapes,
    probes,
    waves,
    codes_of_numbers,
    progress,
    clock_or_pizza,
    clusters_of_neurons,
    progress_of_checkpoints,
    pictures,
    models_of_digits,
    short_answers,
    models_of_pairs,
    models_from_files,
    models_for_files,
    answers_and_activations,
    attention_on_pairs,
    ablations,
    states_of_pairs,
    states_of_pairs_exchanged,
    axes_of_places,
    carries_from_afar,
    carries_before_the_mlp,
    mistakes_foretold,
    bounds_of_leads,
    carries_from_tables,
    parts_of_logits,
    grades,
    answers_after_a_shared_start,
    ends_of_prompts,
    effects_on_logits,
    carries_in_sight,
    rules_of_neurons,
    neurons_at_the_end,
    late_neurons,
    carries_exchanged,
    pairs_a_few_at_a_time,
    summaries_of_sweeps,
    patches,
    runs_of_prompts,
)


ON_CPU = {
    probes: [components.probe],
    progress_of_checkpoints: [progress_measures.measure],
    models_for_files: [classic_state_dict],
    answers_and_activations: [
        answers.answer,
        answers.write_out,
        activations.activations,
        activations.answer_activations,
        roles.answer_patterns,
    ],
    ablations: [answers.answer],
    states_of_pairs_exchanged: [state_exchange.written_with],
    axes_of_places: [place_axes.axis_of, answers.answer],
    carries_from_afar: [sight.says_carry],
    carries_before_the_mlp: [AttentionTables.of, carry_plane.logits_after],
    carries_from_tables: [AttentionTables.of],
    parts_of_logits: [attribution.attribute, attribution.attribute_neurons],
    grades: [grading.grade, carries.answer_logits],
    ends_of_prompts: [grading.SharedStart.at_end, grading.SharedStart.activations],
    late_neurons: [LateNeurons.over, swap_digits],
    carries_exchanged: [carries.exchange_carries, carries.Sight.measured],
    pairs_a_few_at_a_time: [estimated_effects, restored_by_streams],
    patches: [
        Patcher.baseline,
        Patcher.sweep,
        attribution_patch,
        relevance_patch,
        embedding_noise,
        GroupPatches.of,
    ],
}
"""Rooms whose results lie on the CPU, with the functions that bring them there and say so."""

OF_TWO = {room: {"index_add at fourier.py"} for room in ("waves", "clock_or_pizza")}
"""Sums in open order that hold two numbers at most, and so are the same in any order, by room.

A frequency has a sine and a cosine.
"""


def devices_in(result: Any) -> set[str]:
    """The kinds of device where the tensors of a result lie."""
    if isinstance(result, Tensor):
        return {result.device.type}
    if is_dataclass(result):
        result = [getattr(result, field.name) for field in fields(result)]
    if isinstance(result, dict):
        result = list(result.values())
    return set().union(*map(devices_in, result)) if isinstance(result, list | tuple) else set()


@pytest.mark.parametrize("work", ROOMS)
def test_a_gpu_gives_what_the_cpu_gives(work, gpu):
    """It leaves the result where it belongs, and adds up in one order."""
    result = work("cuda")
    assert_same(result, work("cpu"))
    assert devices_in(result) <= {"cpu" if work in ON_CPU else "cuda"}
    if gpu is not None:
        open_sums = {said.rpartition(":")[0] for said in gpu.open_sums}
        assert open_sums == OF_TWO.get(work.__name__, set())


def test_what_returns_on_the_cpu_says_so():
    functions = [function for of_room in ON_CPU.values() for function in of_room]
    silent = [
        function.__qualname__
        for function in functions
        if "on the CPU" not in " ".join(function.__doc__.split())
    ]
    assert not silent


def test_many_questions_are_answered_through_the_readout(gpu, monkeypatch):
    monkeypatch.setattr(answers, "READOUT_FROM", 400)
    given, expected = (answers.answer(model_of(device), asked(400)) for device in ("cuda", "cpu"))
    assert torch.equal(given.digits, expected.digits)


@pytest.mark.filterwarnings("ignore:.*patching through hooks")
def test_patching_through_hooks_is_the_same(gpu, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("not this one")

    monkeypatch.setattr(ShortForward, "check", refuse)
    kinds = ("resid_mid", "v", "pattern")
    assert_same(patches("cuda", kinds), patches("cpu", kinds))


def test_a_model_is_loaded_onto_the_gpu(gpu, tmp_path, capsys):
    llm = load_llm(path=save_folder(tmp_path / "tiny"), device="cuda")
    assert {p.device.type for p in llm.bridge.parameters()} == {"cuda"}
    assert f"on {torch.cuda.get_device_name(0)}; loaded" in capsys.readouterr().out


def test_the_device_says_its_name(gpu):
    name = torch.cuda.get_device_name(0)
    assert devices.device_name(devices.choose_device("auto")) == name
    assert devices.hardware(devices.choose_device("auto")) == name


def test_random_weights_leave_the_gpus_random_numbers_alone(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_rng_state", None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", None)
    load_llm(RANDOM, device="cpu")


# ---------------------------------------------------------------------------- training
DIGITS = TrainConfig(
    TASK, SHAPE, steps=30, batch_size=16, lr=1e-3, snapshot_every=10, warmup_steps=3
)
NUMBERS = PairConfig(PAIRS, PAIR_SHAPE, share=0.5, epochs=30, snapshot_every=10, test_every=100)

CONFIGS = {
    "one layer": DIGITS,
    "two layers": replace(DIGITS, model=replace(SHAPE, n_layers=2)),
    "attention alone": replace(DIGITS, model=replace(SHAPE, attn_only=True)),
    "without carries": replace(DIGITS, task=AdditionTask(3, carry=False, answer_order="lsd")),
    "from a fixed set": replace(DIGITS, dataset_size=64, enrich_every=0),
    "bf16": replace(DIGITS, precision="bf16"),
    "pairs": NUMBERS,
    "pairs as they are": replace(NUMBERS, task=PairTask(7), biases=True, test_every=5),
}


def tolerance(config: RunConfig) -> dict[str, float]:
    """Of a comparison over devices: bf16 has 8 bits, and its sums differ in the last one or two."""
    return {"atol": 0.05, "rtol": 0.05} if getattr(config, "precision", "") == "bf16" else {}


def trained(config: RunConfig, device: str, steps: int) -> BaseTrainer:
    trainer = config.trainer(device)
    trainer.train(steps)
    return trainer


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_training_lies_on_the_gpu_as_a_whole(config, gpu):
    trainer = trained(config, "cuda", 2)
    held = [*trainer.history.tensors().values(), *trainer.weights.values()]
    held += [
        tensor for p in trainer.weights.values() for tensor in trainer.optimizer.state[p].values()
    ]
    assert {tensor.device.type for tensor in held} == {"cuda"}
    assert not trainer.history.loss[:2].isnan().any()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_training_on_the_gpu_is_the_same(config, gpu):
    """The same questions, and the same losses up to rounding."""
    given, expected = (trained(config, device, 7) for device in ("cuda", "cpu"))
    assert_same(given.history.tensors(), expected.history.tensors(), **tolerance(config))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ten_steps_wait_for_nothing(config, counted):
    """Enriched steps neither. What is drawn ahead is there after the first step."""
    if isinstance(config, PairConfig):  # it waits where it looks at its stop rule, after a test
        config = replace(config, test_every=100)
    trainer = trained(config, "cuda", 1)
    counted.waits.clear()
    trainer.train(10)
    assert not counted.waits


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_gradients_are_summed_in_one_order(config, counted):
    """Only then can a resumed run end where an uninterrupted one does."""
    trained(config, "cuda", 5)
    assert not counted.open_sums


class Interrupted(Exception):
    """Stands for what ends a training early."""


def interrupt(config: RunConfig, device: str, step: int) -> None:
    """Train on a device until, after so many steps, something ends it."""
    kind = type(config.trainer("cpu"))
    train_step = kind.train_step
    advance = StackedTrainer.advance

    def steps_until(trainer: BaseTrainer) -> None:
        if trainer.step == step:
            raise Interrupted
        train_step(trainer)

    def advance_until(stack: StackedTrainer, to: int) -> None:
        if to > step:
            raise Interrupted
        advance(stack, to)

    with (
        mock.patch.object(kind, "train_step", steps_until),
        mock.patch.object(StackedTrainer, "advance", advance_until),
        mock.patch.object(together, "SECONDS_PER_STATE", 0),
        pytest.raises(Interrupted),
    ):
        load_or_train(config, device, progress=False)


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("name", ["one layer", "bf16", "pairs"])
def test_an_interrupted_training_goes_on_on_the_other_device(
    name, first, then, gpu, tmp_path, monkeypatch
):
    config = CONFIGS[name]
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "whole"))
    whole = load_or_train(config, then, progress=False)
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "interrupted"))
    interrupt(config, first, step=15)
    resumed = load_or_train(config, then, progress=False)
    names = {"cpu": "cpu", "cuda": torch.cuda.get_device_name(0)}
    assert resumed.record["device"] == f"{names[first]}, then {names[then]}"
    assert [session["to_step"] for session in resumed.record["sessions"]] == [10, 30]
    assert next(resumed.model.parameters()).device.type == then
    close = tolerance(config)
    assert_same(weights(resumed.model), on_cpu(weights(whole.model)), **close)
    assert_same(resumed.history.tensors(), on_cpu(whole.history.tensors()), **close)


def test_an_interrupted_training_goes_on_on_the_gpu(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "whole"))
    whole = load_or_train(DIGITS, "cuda", progress=False)
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "interrupted"))
    interrupt(DIGITS, "cuda", step=15)
    resumed = load_or_train(DIGITS, "cuda", progress=False)
    given, expected = on_cpu(weights(resumed.model)), on_cpu(weights(whole.model))
    assert given.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(given[name], expected[name])]
    assert not different


def test_logits_of_snapshots_lie_on_the_cpu(gpu, cache):
    config = replace(DIGITS, steps=4, snapshot_every=2, warmup_steps=1)
    questions = asked(task=config.task)
    on_gpu, on_cpu = (
        load_or_train(config, device, progress=False).answer_logits(questions, 2, 4)
        for device in ("cuda", "cpu")
    )
    assert_same(on_gpu, on_cpu)
    assert on_gpu.device.type == "cpu"


def test_a_run_of_one_device_is_the_run_of_the_other(gpu, cache):
    """It is trained once; its models and snapshots lie where they are asked for."""
    first, again = (load_or_train(NUMBERS, device, progress=False) for device in ("cuda", "cpu"))
    assert first.record == again.record
    assert first.record["device"] == torch.cuda.get_device_name(0)
    assert_same(weights(first.model), weights(again.model))
    assert_same(weights(first.model_at(10)), weights(again.model_at(10)))
    assert {p.device.type for p in first.model_at(10).parameters()} == {"cuda"}
    assert_same(first.stacked_snapshots(), again.stacked_snapshots())


# ------------------------------------------------------------------------------ graphs
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bf16"])
def test_models_of_one_shape_are_trained_together_and_come_out_the_same(name, gpu, cache):
    """As a graph of two, and one of another shape beside them as a graph of its own."""
    config = CONFIGS[name]
    other = DIGITS if isinstance(config, PairConfig) else NUMBERS
    configs = [config, replace(config, seed=5), replace(other, seed=6)]
    runs = load_or_train_all(configs, "cuda", progress=False)
    ways = [[session["way"] for session in run.record["sessions"]] for run in runs]
    assert ways == [["stacked of 2"], ["stacked of 2"], ["graph"]]
    for run in runs:
        alone = trained(run.config, "cpu", run.steps)
        assert run.device.type == "cuda"
        assert (run.history.loss[:10] - alone.history.loss[:10]).abs().max() < 1e-5
        assert_same(run.history.tensors(), alone.history.tensors())
        assert run.snapshot_steps == [0, 10, 20, 30]


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bf16"])
def test_a_replayed_step_waits_for_nothing_and_adds_up_in_one_order(name, counted):
    configs = [CONFIGS[name], replace(CONFIGS[name], seed=5)]
    stack = stacked_trainer(configs, "cuda")
    counted.waits.clear()
    counted.open_sums.clear()
    for kind in stack.kinds:
        stack.take_step(kind)
    stack.record_graphs()
    for take in stack.take.values():
        take()
    assert not counted.waits
    assert not counted.open_sums


@pytest.mark.parametrize(
    "fault", ["CUDA error: operation not supported", "CUDA out of memory. Tried to allocate"]
)
def test_without_a_graph_the_plain_way_is_taken_and_said_once(
    fault, gpu, cache, monkeypatch, capsys
):
    def refuse(*_, **__):
        raise RuntimeError(fault)

    devices.say_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    configs = [
        replace(DIGITS, steps=4),
        replace(DIGITS, steps=4, seed=5),
        replace(NUMBERS, epochs=4),
    ]
    runs = load_or_train_all(configs, "cuda", progress=False)
    assert [run.record["sessions"][0]["way"] for run in runs] == ["eager"] * 3
    reason = "memory is short" if "memory" in fault else fault
    assert capsys.readouterr().out == (
        f"No CUDA graph of a training step can be had here ({reason}); steps are launched one by "
        "one, which takes several times as long.\n"
    )


# ----------------------------------------------------------------------- nothing is left out
TAKES = re.compile(r"\bTensor\b|Questions|TransformerBridge|\bLLM\b|PromptPairs|Patches|device")
"""What the parameters of a function say that is to be tried here."""

BEHIND = {
    "claims.ledger.Ledger.measure": "the device is a label there",
    "claims.ledger.Ledger.measure_means": "bootstrap_of, which a room tries",
    "claims.ledger.Ledger.measure_resampled": "its rows are numbers of a sample, on the CPU",
    "claims.ledger.Ledger.measure_share": "counts, which become numbers at once",
    "device.hardware": "test_the_device_says_its_name",
    "patching.engines.HookEngine.logits": "test_patching_through_hooks_is_the_same",
    "patching.engines.HookEngine.outcome": "test_patching_through_hooks_is_the_same",
    "training.runs.Run.answer_logits": "test_logits_of_snapshots_lie_on_the_cpu",
}
"""Functions that no room calls and no short training, and what tries them or why nothing does."""


def functions_on_tensors() -> Iterator[tuple[str, CodeType]]:
    """Public functions and methods of the package whose parameters hold tensors or a device."""
    for found in pkgutil.walk_packages(addlib.__path__, "addlib."):
        if found.name == "addlib.book" or found.name.startswith("addlib.book."):
            continue
        module = importlib.import_module(found.name)
        own = [x for x in vars(module).values() if getattr(x, "__module__", None) == found.name]
        classes = [x for x in own if inspect.isclass(x)]
        methods = [getattr(x, "__func__", x) for owner in classes for x in vars(owner).values()]
        for function in filter(inspect.isfunction, [*own, *methods]):
            parameters = [str(p) for p in inspect.signature(function).parameters.values()]
            is_public = function.__name__ == "__call__" or not function.__name__.startswith("_")
            is_public &= not getattr(function, "__isabstractmethod__", False)
            if is_public and TAKES.search(" ".join(parameters)):
                name = f"{found.name.removeprefix('addlib.')}.{function.__qualname__}"
                yield name, inspect.unwrap(function).__code__


@contextmanager
def recorded() -> Iterator[set[CodeType]]:
    """The code of all functions of Python that are called in this thread meanwhile."""
    called: set[CodeType] = set()

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(record)
    try:
        yield called
    finally:
        sys.setprofile(before)


def test_every_public_function_that_takes_tensors_is_tried_here(gpu, cache):
    """In the rooms or in a short training that is interrupted, or it says where."""
    with recorded() as called:
        for work in ROOMS:
            work("cuda")
        for config in (
            replace(DIGITS, steps=4, snapshot_every=2, warmup_steps=1),
            replace(NUMBERS, epochs=4, snapshot_every=2),
            replace(DIGITS, steps=4, snapshot_every=2, warmup_steps=1, precision="bf16"),
        ):
            interrupt(config, "cuda", step=3)
            load_or_train_all([config], "cuda", progress=False)
    missing = {name for name, code in functions_on_tensors() if code not in called}
    assert missing == set(BEHIND)
