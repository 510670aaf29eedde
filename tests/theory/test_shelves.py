"""Shelves of curves that are made to rest where a state of knowledge must."""

import numpy as np
import pytest

from addlib.tasks.addition import AdditionTask
from addlib.theory.plateaus import Plateau
from addlib.theory.shelves import STATES, levels, share_found, shelves, tolerance

TASK = AdditionTask(3)


def test_each_digit_has_the_levels_of_the_pairs_that_it_has():
    assert list(levels(TASK, 0)) == ["answer so far", "own pair"]
    assert list(levels(TASK, 2)) == list(STATES[:4])
    assert list(levels(TASK, 3)) == ["answer so far", "next pair", "second pair", "third pair"]
    assert levels(TASK, 1)["own pair"] == pytest.approx(0.68689, abs=1e-5)
    for k in range(4):
        assert sorted(levels(TASK, k).values(), reverse=True) == list(levels(TASK, k).values())


def test_a_curve_that_rests_above_a_level_belongs_to_it():
    """A1 rests on ln 10 and then a tenth above its own pair's level; A0 only falls."""
    steps = np.arange(1200)
    up, down = np.log(10), 1.1 * levels(TASK, 1)["own pair"]
    noise = np.random.default_rng(0).normal(0, 0.01, 1200)
    tens = np.where(steps < 500, up, down + (up - down) * np.exp(-(steps - 500) / 5)) + noise
    falling = 3 * np.exp(-steps / 60) + 1e-6
    found = shelves(np.stack([falling, tens, falling, falling], 1), TASK)
    assert found[1, "answer so far"].level == pytest.approx(up, abs=0.01)
    assert found[1, "own pair"].level == pytest.approx(down, abs=0.02)
    assert found[1, "next pair"] is None
    assert found[0, "answer so far"] is None

    assert (tolerance(2.0), tolerance(0.1)) == (0.06, 0.02)


def test_a_shelf_that_is_missing_or_far_off_counts_against_its_level():
    """Two shelves that miss by as much on either side are no better than one."""

    def at(level):
        return Plateau(0, 99, level, (level, level))

    near = (at(0.70), 0.69)
    assert share_found([near]) == 1
    assert share_found([near, (None, 0.69)]) == 0.5
    assert share_found([(at(0.79), 0.69), (at(0.59), 0.69), near, near]) == 0.5
    assert share_found([(None, 2.3)]) == 0
