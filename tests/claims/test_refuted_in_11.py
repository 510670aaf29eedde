"""Claims of chapter 11 that can fail: what `refuted_by` says of them is made to happen."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.geometry.clock_pizza import distance_irrelevance, gradient_cosines
from addlib.geometry.progress_measures import (
    answer_waves,
    loss_by_sum,
    mean_by_sum,
    measure,
    pair_sums,
    restricted_logits,
)
from addlib.geometry.quadrature import Cluster, doubled_in_step, product_share, reading_only
from addlib.stats import answer_nll

P, KEY = 23, 3


def verdict(id: str, value: float) -> str:
    return declared()[id].threshold.verdict(value)


def turns() -> Tensor:
    return 2 * math.pi * KEY * torch.arange(P).double() / P


def neurons(directions: Tensor, doubled: float = 0.0, late: float = math.pi) -> Tensor:
    """What neurons of a pizza read, (p, p, neuron)."""
    angle = turns()[:, None] - directions
    wave = angle.cos() + doubled * (2 * angle - late).cos()
    return wave[:, None] + wave


def even(count: int = 60) -> Tensor:
    return 2 * math.pi * torch.arange(count).double() / count


def logits(kind: str) -> Tensor:
    """A planted pizza's or clock's for all pairs, each answer with a height of its own."""
    a, b, c = torch.meshgrid(*[turns()] * 3, indexing="ij")
    strength = ((a - b) / 2).cos().abs() if kind == "pizza" else torch.ones_like(a)
    heights = torch.linspace(1, 1.2, P).double() if kind == "clock" else 1.0
    return strength * (a + b - c).cos() * heights


def test_each_kind_fails_where_the_other_holds() -> None:
    assert verdict("11.distances-of-a-clock", distance_irrelevance(logits("pizza"))) == "fails"
    assert verdict("11.distances-of-a-clock", distance_irrelevance(logits("clock"))) == "holds"
    circle = torch.stack([turns().cos(), turns().sin()], 1)
    triples = torch.cartesian_prod(*[torch.arange(P)] * 3)

    def pizza(first: Tensor, second: Tensor) -> Tensor:
        x, y = (first + second).unbind(1)
        size = (x.square() + y.square()).sqrt()
        doubled = torch.stack([x.square() - y.square(), 2 * x * y], 1) / size[:, None]
        return doubled @ circle.T

    cosines = gradient_cosines(pizza, circle, circle, triples)
    assert verdict("11.gradients-of-a-clock", cosines.mean().item()) == "fails"
    *pizzas, clock = stored.read("clock_pizza")["models"]
    measured = "gradient symmetricity"
    assert {verdict("11.gradients-of-a-clock", model[measured]) for model in pizzas} == {"fails"}
    assert verdict("11.gradients-of-a-clock", clock[measured]) == "holds"


def test_attention_that_multiplies_is_no_sum() -> None:
    pre = neurons(even())
    assert verdict("11.inputs-are-sums", product_share(pre)) == "holds"
    product = turns().cos()[:, None] * turns().cos()
    assert verdict("11.inputs-are-sums", product_share(pre + product[..., None])) == "fails"


@pytest.mark.parametrize(("out", "expected"), [(2, "holds"), (1, "fails")])
def test_neurons_that_vote_for_something_else(out: int, expected: str) -> None:
    written = torch.cos(turns()[:, None] - out * even())
    match = Cluster.of(neurons(even()), written, KEY).phase_match.mean()
    assert verdict("11.phases-add", match.item()) == expected


def test_directions_that_crowd() -> None:
    for directions, expected in ((even(), "holds"), (even() / 2, "fails")):
        found = Cluster.of(neurons(directions), torch.zeros(P, 60), KEY).direction
        p_value = kstest(found.numpy() / (2 * math.pi) + 0.5, "uniform").pvalue
        assert verdict("11.phases-spread-evenly", p_value) == expected


def test_neurons_that_need_other_waves() -> None:
    pre = neurons(even())
    W_L = torch.cos(turns()[:, None] - 2 * even())

    def right(frequency: int) -> float:
        answers = (reading_only(pre, [frequency]) @ W_L.T).flatten(0, 1).argmax(1)
        return (answers == pair_sums(P)).double().mean().item()

    assert verdict("11.one-frequency-inputs", right(KEY)) == "holds"
    assert verdict("11.one-frequency-inputs", right(KEY + 1)) == "fails"


@pytest.mark.parametrize(("late", "expected"), [(math.pi, "holds"), (0.0, "fails")])
def test_doubled_waves_that_deepen_the_gaps(late: float, expected: str) -> None:
    pre = neurons(even(), doubled=0.15, late=late)
    match, size = doubled_in_step(pre.mean(1), KEY)
    assert verdict("11.doubled-in-step", ((match * size).sum() / size.sum()).item()) == expected
    W_L = torch.cos(turns()[:, None] - 2 * even())
    spread = {}
    for name, read in (("with", pre), ("without", neurons(even()))):
        right = (read.relu() @ W_L.T).flatten(0, 1).gather(1, pair_sums(P)[:, None])
        spread[name] = (right.std() / right.mean()).item()
    assert (spread["with"] < spread["without"]) == (expected == "holds")


def test_a_table_learned_by_heart_leads_nowhere() -> None:
    """Nor do its key waves beat averaging, or the model."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(P * P, generator=generator)
    train, test = order[:160], order[160:]
    table = torch.randn(P, P, P, generator=generator).double()
    table.flatten(0, 1)[train, pair_sums(P)[train]] += 20
    progress = measure([table], [KEY], train, test)
    never_right = max(
        progress.restricted_test_accuracy.item(), progress.pairwise_test_accuracy.item()
    )
    assert verdict("11.no-lead-without-decay", never_right) == "holds"
    assert verdict("11.restricted-leads", 0) == verdict("11.pair-by-pair-leads", 0) == "fails"
    assert verdict("11.lead-beyond-averaging", 0) == "fails"


def test_other_waves_of_the_answer_can_help() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = torch.meshgrid(*[turns()] * 3, indexing="ij")
    both = 3 * (a + b - c).cos() + 3 * (5 * (a + b - c)).cos()
    noise = 8 * torch.randn(both.shape, generator=generator).double()
    sums, every = pair_sums(P), torch.arange(P * P)
    for helpful, expected in ((both, "fails"), (3 * (a + b - c).cos() + noise, "holds")):
        uncut = answer_nll(helpful.flatten(0, 1), sums).mean()
        cut = answer_nll(answer_waves(helpful, [KEY]).flatten(0, 1), sums).mean()
        assert verdict("11.pair-by-pair-loss", (cut / uncut).item()) == expected
    kept = loss_by_sum(restricted_logits(both, [KEY], every), every)
    averaged = loss_by_sum(mean_by_sum(both, every), every)
    assert verdict("11.key-waves-beat-averaging", (kept / averaged).item()) == "fails"
