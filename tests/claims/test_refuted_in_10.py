"""Claims on the toy model can fail: what `refuted_by` says of them is made to happen."""

from __future__ import annotations

import pytest
import torch

from addlib.geometry.angles import fit_plane, means_by, nearest_direction
from addlib.geometry.components import correlation, fit_parabola, pca, probe
from addlib.geometry.pair_portrait import PlaneNeurons
from addlib.tasks.pairs import PairTask, split
from verdicts import verdict

TASK = PairTask(10)

NUMBERS = torch.arange(10).double()

SUMS = TASK.pairs().sum(1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_who_learns_pairs_by_heart_knows_mirror_images_and_no_other_pair():
    """It knows each sum that it saw, in any order, and says 9 to the rest."""

    def right(unordered: bool) -> float:
        train, test = split(TASK, 0.72, 598, unordered)
        seen = {frozenset(pair) for pair in TASK.pairs()[train].tolist()}
        held_out = TASK.pairs()[test].tolist()
        said = [sum(pair) if frozenset(pair) in seen else 9 for pair in held_out]
        hits = [answer == sum(pair) for answer, pair in zip(said, held_out, strict=True)]
        return sum(hits) / len(hits)

    assert right(unordered=False) > 0.75
    assert right(unordered=True) < 0.25
    assert verdict("10.adds-unseen-pairs", right(unordered=True)) == "fails"
    assert verdict("10.more-pairs-more-rule", 0.0) == "fails"


def test_few_random_walks_have_the_line_or_the_parabola_of_the_claims():
    parts = [pca(drawn(10, 128, seed=seed).cumsum(0)) for seed in range(200)]
    passed = {
        "10.two-components": [part.shares[:2].sum().item() for part in parts],
        "10.line": [abs(correlation(NUMBERS, part.scores[:, 0]).item()) for part in parts],
        "10.parabola": [fit_parabola(NUMBERS, part.scores[:, 1]).r2 for part in parts],
    }
    for id, values in passed.items():
        held = sum(verdict(id, value) == "holds" for value in values)
        assert held <= 20, f"{id}: {held} of 200"
    assert sum(value >= 0.99 for value in passed["10.line"]) > 80, "the old threshold"


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_a_line_foretells_mistakes_that_grow_with_the_sum(factor):
    """Vectors on a parabola, answered by a shrunken sum: the angle foretells less than the line."""
    across = SUMS.double() - 9
    vectors = torch.stack([across, 9 - across.square() / 9], 1)
    answers = (9 + factor * across).round().long()
    by_angle = nearest_direction(vectors, means_by(vectors, SUMS)) == answers
    ahead = by_angle.double().mean().item() - 1  # the line of this factor foretells them all
    assert verdict("10.angle-beats-a-fitted-line", ahead) == "fails"


def test_wedges_with_borders_elsewhere_refute_the_nearest_direction():
    """Sums that crowd at both ends, and a model whose wedges are all of one width."""
    places = torch.arange(19).double() - 9
    angles = torch.atan(places / 3)
    hands = torch.linspace(float(angles[0]), float(angles[-1]), 500).double()
    vectors = torch.stack([hands.sin(), hands.cos()], 1)
    nearest = nearest_direction(vectors, torch.stack([angles.sin(), angles.cos()], 1))
    evenly = torch.linspace(0, 18, 500).round().long()
    agreed = (nearest == evenly).double().mean().item()
    assert verdict("10.turned-anywhere", agreed) == "fails"


def test_neurons_that_read_more_than_a_plane_refute_the_plane():
    rows = drawn(100, 30)
    plane = fit_plane(rows, SUMS)
    votes = drawn(19, 30, seed=1)
    logits, inside = (at @ votes.T for at in (rows, plane.points(rows) @ plane.axes))
    left = (logits - inside).square().sum() / logits.square().sum()
    assert verdict("10.logits-from-the-plane", 1 - left.item()) == "fails"


def test_neurons_whose_directions_matter_can_not_be_merged():
    """19 pairs of neurons, all in one sector: each answer lies between two close directions."""
    angles = torch.linspace(-0.1, 0.1, 38).double()
    votes = torch.zeros(38, 19, dtype=torch.float64)
    for answer in range(19):
        votes[2 * answer, answer] = 40.0
        votes[2 * answer + 1, answer] = -40.0
    neurons = PlaneNeurons(angles, votes, torch.zeros(2, 19, dtype=torch.float64))
    hands = torch.linspace(-1.4, 1.4, 200).double()
    points = torch.stack([hands.sin(), hands.cos()], 1)
    said = neurons.logits(points).argmax(1)
    few = neurons.merged(neurons.sectors(24)).logits(points).argmax(1)
    assert verdict("10.few-neurons", (few == said).double().mean().item()) == "fails"


def test_random_neurons_are_enough_for_a_probe():
    """So a probe after training can be no better: the old claim held before training, too."""
    a, b = TASK.pairs().T
    codes = drawn(10, 64)
    neurons = ((codes[a] + codes[b]) @ drawn(64, 512, seed=1)).relu()
    before = probe(neurons, SUMS, groups=SUMS).r2
    assert before > 0.95
    assert verdict("10.probe-sees-no-training", 1 - before) == "holds"
    assert verdict("10.probe-sees-no-training", 1 - 0.5) == "fails"
