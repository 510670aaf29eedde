"""Estimates beside exact values: agreement that is known beforehand."""

import numpy as np
import pytest
import torch

from addlib.patching.agreement import Agreement, rank_agreement


def effects(seed):
    return torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(seed))


EXACT = {"z": effects(0), "v": effects(1)}


def test_a_perfect_estimate_and_a_reversed_one():
    agreement = Agreement({"exact": EXACT, "same": EXACT, "turned": {"z": -EXACT["z"]}})
    assert agreement.pairings == [("same", "z"), ("same", "v"), ("turned", "z")]
    assert agreement.fit("same", "z") == pytest.approx(1)
    assert agreement.fit("turned", "z") == pytest.approx(-1)
    assert agreement.interval("turned", "z") == pytest.approx((-1, -1))
    assert agreement.strongest("turned", "z") == agreement.strongest("exact", "z")
    table = agreement.table()
    assert table["cells"].tolist() == [30, 30]
    assert table["same"].tolist() == ["1.00 (1.00 to 1.00)"] * 2
    assert table["turned"].tolist() == ["-1.00 (-1.00 to -1.00)", "–"]
    assert table["10 strongest, turned"].tolist() == ["10 of 10", "–"]


def test_a_fit_is_numpy_s_over_means_of_the_pairs_asked_for():
    other = {"z": EXACT["z"] + effects(2)}
    agreement = Agreement({"exact": EXACT, "noisy": other})
    pairs = torch.tensor([0, 3, 3])
    means = [of["z"][..., pairs].mean(-1).flatten() for of in (EXACT, other)]
    assert agreement.fit("noisy", "z", pairs) == pytest.approx(np.corrcoef(*means)[0, 1], abs=1e-6)
    low, high = agreement.interval("noisy", "z")
    assert low < agreement.fit("noisy", "z") < high < 1
    expected = np.argsort(-np.abs(other["z"].mean(-1).flatten().numpy()))[:3]
    assert agreement.strongest("noisy", "z", 3) == expected.tolist()


def test_two_corruptions_are_held_against_one_on_other_pairs_and_against_other_layers():
    cells = torch.arange(30.0).view(5, 6, 1)
    alike = rank_agreement(cells + 0.01 * effects(2), 100 + 3 * cells + 0.01 * effects(3))
    assert alike["both"] == alike["same"] == alike["across"] == pytest.approx(1)
    assert alike["shuffled"] < 0.9
    turned = rank_agreement(cells.expand(-1, -1, 8), -cells.expand(-1, -1, 8))
    assert [turned[name] for name in ("both", "same", "across")] == pytest.approx([-1, 1, -1])
