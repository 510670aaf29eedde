"""Composition scores of heads whose alignment is known."""

import numpy as np
import pytest

from addlib.geometry.composition import composition


def direction(rng, width):
    """A random unit vector without mean."""
    vector = rng.normal(size=width)
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


def test_a_head_that_reads_just_what_is_written_scores_1_and_its_turns_do_not():
    rng = np.random.default_rng(0)
    along = direction(rng, 32)
    write = np.outer(rng.normal(size=32), along)
    read = np.outer(along, rng.normal(size=32))
    score, turned = composition(write, read, 200, rng)
    assert score == pytest.approx(1)
    assert np.sqrt((turned**2).mean()) == pytest.approx(31**-0.5, rel=0.15)
    assert (turned < 0.7).all()


def test_what_layer_norm_takes_away_is_not_read():
    """Both heads share the mean direction, which no head can see behind a LayerNorm."""
    rng = np.random.default_rng(1)
    here, there = direction(rng, 32), direction(rng, 32)
    there -= (there @ here) * here
    write = np.outer(rng.normal(size=32), here + 5)
    read = np.outer(there + 5, rng.normal(size=32))
    score, _ = composition(write, read, 1, rng)
    assert score == pytest.approx(0, abs=1e-9)


def test_heads_that_know_nothing_of_each_other_score_like_their_turns():
    rng = np.random.default_rng(2)
    above = []
    for _ in range(40):
        write = rng.normal(size=(24, 4)) @ rng.normal(size=(4, 24))
        read = rng.normal(size=(24, 4)) @ rng.normal(size=(4, 24))
        score, turned = composition(write, read, 100, rng)
        above.append(score > np.quantile(turned, 0.9))
    assert 0 < np.mean(above) < 0.3
