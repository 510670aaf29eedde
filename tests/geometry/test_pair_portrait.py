"""The portrait of a pair model, and the wedges of directions with one answer."""

from __future__ import annotations

import math

import pytest
import torch

from addlib.geometry.angles import Plane
from addlib.geometry.pair_portrait import portrait, wedges
from addlib.models.bridge import weights
from addlib.models.pairs import pair_paths
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
