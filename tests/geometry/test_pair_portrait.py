"""The portrait of a pair model, and the wedges of directions with one answer."""

from __future__ import annotations

import math

import pytest
import torch

from addlib.geometry.angles import Plane
from addlib.geometry.pair_portrait import PlaneNeurons, plane_neurons, portrait, wedges
from addlib.models.bridge import weights
from addlib.models.pairs import logits_from, pair_paths
from addlib.tasks.pairs import PairTask
from addlib.training.pairs import PairConfig


@pytest.fixture(scope="module")
def model():
    config = PairConfig(PairTask(5), seed=3)
    built = weights(config.build("cpu"))
    return {name: w.detach() for name, w in built.items()}, config


def test_a_portrait_is_the_model_s_own(model):
    w, config = model
    task = config.task
    row = portrait(w, config.model, task)
    answer = pair_paths(w, config.model, task).logits.argmax(1)
    assert row["right"] == (answer == task.answers(task.pairs())).double().mean()
    assert 0 < row["PC2"] < row["PC1"] < 1
    assert row["of a line"] == pytest.approx(
        math.degrees(math.atan(4 / math.sqrt(12)) - math.atan(3 / math.sqrt(12)))
    )


def test_wedges_are_where_the_answer_changes(model):
    """A model whose MLP is silent, with the unit vectors of a square as outputs, has quadrants."""
    w, _ = model
    width = w["embed.weight"].shape[1]
    square = torch.zeros(4, width)
    for i, (x, y) in enumerate([(0, 1), (1, 0), (0, -1), (-1, 0)]):
        square[i, 0] = x
        square[i, 1] = y
    silent = w | {
        "blocks.0.mlp.out.weight": torch.zeros_like(w["blocks.0.mlp.out.weight"]),
        "blocks.0.mlp.out.bias": torch.zeros_like(w["blocks.0.mlp.out.bias"]),
        "unembed.weight": square,
    }
    axes = torch.eye(width, dtype=torch.float64)[:2]
    ends, answers = wedges(silent, Plane(axes, share=1.0))
    assert answers.tolist() == [0, 1, 2, 3]
    assert ends.rad2deg() == pytest.approx([45, 135, 225, 315], abs=0.11)


def test_the_neurons_of_a_plane_give_the_model_s_logits(model):
    w, _ = model
    width = w["embed.weight"].shape[1]
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(2, width, generator=generator, dtype=torch.float64)
    plane = Plane(torch.linalg.qr(rows.T)[0].T, share=1.0)
    points = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    expected = logits_from(w, points @ plane.axes)
    neurons = plane_neurons(w, plane)
    torch.testing.assert_close(neurons.logits(points), expected)
    alone = w | {"unembed.weight": torch.zeros_like(w["unembed.weight"])}
    assert not plane_neurons(alone, plane).logits(points).any()
    torch.testing.assert_close(neurons.added(points) + points @ neurons.direct, expected)


def test_neurons_of_one_direction_are_one_neuron_and_others_are_not():
    """Three directions, each of several neurons; any other grouping loses the answers."""
    generator = torch.Generator().manual_seed(2)
    kinds = torch.arange(30) % 3
    angles = torch.tensor([-2.0, 0.1, 1.5], dtype=torch.float64)[kinds]
    votes = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    neurons = PlaneNeurons(angles, votes, torch.zeros(2, 6, dtype=torch.float64))
    points = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    few = neurons.merged(kinds)
    assert few.angles.tolist() == pytest.approx([-2.0, 0.1, 1.5])
    torch.testing.assert_close(few.logits(points), neurons.logits(points))
    mixed = neurons.merged(kinds.roll(1).sort().values)
    assert not torch.allclose(mixed.logits(points), neurons.logits(points), atol=0.1)
    sectors = neurons.sectors(5)
    assert sectors.tolist() == [[0, 2, 3][kind] for kind in kinds]
    torch.testing.assert_close(neurons.merged(sectors).logits(points), neurons.logits(points))
