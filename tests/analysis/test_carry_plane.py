"""Axes, cells and exchange, on residual streams whose axes are known."""

import itertools
from dataclasses import replace

import pytest
import torch

from addlib.analysis.activations import answer_activations
from addlib.analysis.carry_plane import (
    CENTRE,
    CarrySample,
    axes_by_head,
    carry_out,
    cell,
    crosses_once,
    directions_outside,
    exchanged,
    fit_axes,
    half_grown,
    logits_after,
    own_sum,
    partners,
    placed,
    readout_line,
    share_between,
    states_below,
)
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.attention_tables import AttentionTables
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions

TASK = AdditionTask(4)


def drawn(count=3000, seed=0):
    return nine_rich_questions(TASK, count, torch.Generator().manual_seed(seed))


def test_states_and_cells_by_hand():
    questions = Questions.of(TASK, [(247, 185), (5454, 4545), (1000, 1)])
    assert states_below(questions, 2).tolist() == [[1, 1], [0, 0], [-1, -1]]
    assert cell(questions, 3).tolist() == [3 * 0 + 2, CENTRE, 0]
    assert cell(questions, 1).tolist() == [6, 3, 0]  # nothing two below: no carry
    assert own_sum(questions, 1).tolist() == [12, 9, 0]
    assert own_sum(questions, 4).tolist() == [0, 0, 0]
    assert carry_out(questions, 1).tolist() == [True, False, False]
    assert not carry_out(questions, 4).any()


@pytest.mark.parametrize("k", [1, 3, 4])
def test_planted_axes_are_found(k):
    questions = drawn()
    generator = torch.Generator().manual_seed(1)
    axes = torch.randn(k, 12, generator=generator)
    own = torch.randn(19, 12, generator=generator)
    stream = states_below(questions, k).float() @ axes + own[own_sum(questions, k)]
    found = fit_axes(stream, questions, k)
    assert torch.allclose(found.axes, axes, atol=1e-4)
    assert torch.allclose(
        found.rest(stream, own_sum(questions, k)),
        states_below(questions, k).float() @ axes,
        atol=1e-3,
    )
    assert torch.allclose(found.lengths, axes.norm(dim=1), atol=1e-4)
    within = axes[:2] @ found.plane @ found.plane.T
    assert torch.allclose(within, axes[:2], atol=1e-4)
    assert ((axes[:2] @ found.plane).diagonal() > 0).all()


def test_a_column_without_pairs_below_has_no_axes():
    with pytest.raises(ValueError, match="k = 0"):
        fit_axes(torch.zeros(10, 3), drawn(10), 0)


def test_variance_between_groups():
    groups = torch.tensor([7, 7, 2, 2])
    assert share_between(torch.tensor([[1.0], [1.0], [3.0], [3.0]]), groups) == 1
    assert share_between(torch.tensor([[1.0], [3.0], [1.0], [3.0]]), groups) == 0


def test_the_rest_of_the_forward_is_the_librarys():
    model = build_model(ModelConfig(width=48), TASK, seed=1)
    questions = drawn(40)
    name = "blocks.0.hook_resid_mid"
    stream = answer_activations(model, [name], questions)[name]
    expected = answer_logits(model, TASK, questions.tokens)
    for k in range(TASK.n_answer):
        found = logits_after(model, stream[:, k], batch_size=16)
        assert torch.allclose(found, expected[:, k], atol=1e-4)


def test_exchange_of_nothing_changes_nothing_and_of_all_gives_the_source():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 20, 6, generator=generator)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert torch.equal(exchanged(ours, ours, basis[:, :2]), ours)
    assert torch.equal(exchanged(ours, theirs, basis[:, :0]), ours)
    assert torch.allclose(exchanged(ours, theirs, basis), theirs, atol=1e-5)
    half = exchanged(ours, theirs, basis[:, :2])
    assert torch.allclose(half @ basis[:, :2], theirs @ basis[:, :2], atol=1e-5)
    assert torch.allclose(half @ basis[:, 2:], ours @ basis[:, 2:], atol=1e-5)


def test_coordinates_are_placed_and_the_rest_stays():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 20, 6, generator=generator)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q[:, :2]
    moved = placed(ours, theirs @ basis, basis)
    assert torch.allclose(moved, exchanged(ours, theirs, basis), atol=1e-6)


def test_partners_are_others_of_the_same_group():
    groups = torch.tensor(list(itertools.chain([3] * 50, [1] * 7, [0])))
    groups = groups[torch.randperm(58, generator=torch.Generator().manual_seed(1))]
    partner = partners(groups, torch.Generator().manual_seed(2))
    assert torch.equal(groups[partner], groups)
    assert len(partner.unique()) == 58
    alone = partner == torch.arange(58)
    assert groups[alone].tolist() == [0]


def test_directions_outside_are_the_largest_others():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, generator=generator) * torch.tensor([9.0, 1.0, 5.0, 2.0])
    found = directions_outside(rows, torch.eye(4)[:, :1], 2)
    assert found[2, 0].abs() > 0.99
    assert found[3, 1].abs() > 0.95
    assert found[0].abs().max() < 1e-5


def test_one_crossing_is_told_from_none_and_two(monkeypatch):
    """The first coordinate decides; the second says how."""
    from addlib.analysis import carry_plane

    def logits(model, stream):
        u, kind = stream.T
        more = torch.where(kind == 2, (u > 1) ^ (u > 2), (u > 1) & (kind == 1))
        return torch.nn.functional.one_hot(more.long(), 10).float()

    monkeypatch.setattr(carry_plane, "logits_after", logits)
    stream = torch.tensor([[0.0, 1.0], [5.0, 1.0], [0.0, 0.0], [0.0, 2.0]])
    questions = Questions.of(TASK, [(0, 0)] * 4)
    sample = CarrySample(questions, 3, stream, torch.zeros(4))
    line = torch.tensor([1.0, 0.0])
    once = crosses_once(None, sample, line, stream[:, 0], torch.linspace(-3, 3, 41))
    assert once.tolist() == [True, True, False, False]


def test_half_of_the_last_length_is_reached_between_two_steps():
    assert half_grown([0, 100, 200], [0.0, 2.0, 4.0]) == 100
    assert half_grown([0, 100, 300], [0.0, 1.0, 5.0]) == 175
    assert half_grown([0, 100], [3.0, 4.0]) == 0


def test_heads_share_the_axes():
    questions = drawn(500)
    tables = AttentionTables.of(build_model(ModelConfig(width=48), TASK, seed=1), TASK, 3)
    axes = fit_axes(tables(questions), questions, 3)
    shares = axes_by_head(tables, axes, questions)
    beside = replace(tables, values=torch.zeros_like(tables.values))
    without = fit_axes(beside(questions), questions, 3).axes[:2]
    share = (without * axes.axes[:2]).sum(1) / axes.lengths[:2].square()
    assert torch.allclose(shares.sum(0) + share, torch.ones(2), atol=1e-3)


def test_the_readout_is_the_direction_that_decides():
    questions = drawn()
    axes = torch.eye(5)[:3] * torch.tensor([4.0, 3.0, 1.0])[:, None]
    noise = torch.randn(3000, 5, generator=torch.Generator().manual_seed(1))
    stream = states_below(questions, 3).float() @ axes + 0.5 * noise
    found = fit_axes(stream, questions, 3)
    decides = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]) / 5**0.5
    more = stream @ decides > 0.3
    sample = CarrySample(questions, 3, stream, (own_sum(questions, 3) + more) % 10)
    assert readout_line(sample, found) @ decides > 0.99
    never = CarrySample(questions, 3, stream, own_sum(questions, 3) % 10)
    assert torch.equal(readout_line(never, found), found.line)
