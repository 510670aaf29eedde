"""Summaries of sweeps against sums done by hand."""

import numpy as np
import pytest
import torch

from addlib.patching.summaries import (
    InTasks,
    by_third,
    correlation,
    crossing,
    head_names,
    late_share,
    leads_over_alike,
    of_means,
    others_of_layers,
    rank_correlation,
)


def test_a_correlation_is_numpy_s_and_zero_for_a_constant():
    one, other = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = np.corrcoef(one.flatten(), other.flatten())[0, 1]
    assert correlation(one, other) == pytest.approx(expected, abs=1e-6)
    assert correlation(one, torch.ones(4, 6)) == 0


def test_a_correlation_of_ranks_sees_the_order_alone_and_ties_share_a_rank():
    one = torch.tensor([[1.0, 2.0], [9.0, 3.0]])
    assert rank_correlation(one, one.exp()) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    # ranks 1, 2, 4, 3 against 1.5, 1.5, 3.5, 3.5
    expected = np.corrcoef([1, 2, 4, 3], [1.5, 1.5, 3.5, 3.5])[0, 1]
    tied = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    assert rank_correlation(one, tied) == pytest.approx(expected, abs=1e-6)


def test_a_curve_crosses_at_its_first_layer_above():
    assert crossing(torch.tensor([0.1, 0.2, 0.7, 0.9])) == 0.5
    assert crossing(torch.tensor([0.1, 0.6, 0.2, 0.9])) == 0.25
    assert crossing(torch.tensor([0.9, 0.9])) == 0
    assert crossing(torch.tensor([0.1, 0.5])) == 1  # one half is not above
    assert crossing(torch.tensor([0.1, 0.5]), level=0.4) == 0.5


def test_negative_effects_are_left_out_of_the_late_share():
    assert late_share(torch.tensor([1.0, -5.0, 1.0, 2.0])) == pytest.approx(0.75)
    assert late_share(torch.tensor([1.0, 1.0, 2.0])) == pytest.approx(0.75)
    assert late_share(-torch.ones(4)) == 0


def test_heads_are_named_layer_by_layer():
    assert head_names(2, 2) == ["L0H0", "L0H1", "L1H0", "L1H1"]
    assert head_names(1, 2, " group ") == ["L0 group 0", "L0 group 1"]


def test_points_lie_in_the_third_of_their_layer_with_their_names():
    x = torch.arange(12.0).view(6, 2)
    points, names = by_third(x, -x, head_names(6, 2))
    assert [*points] == [*names] == ["first third of the layers", "middle", "last third"]
    assert points["middle"].tolist() == [[4, -4], [5, -5], [6, -6], [7, -7]]
    assert names["middle"].tolist() == ["L2H0", "L2H1", "L3H0", "L3H1"]
    assert names["last third"][-1] == "L5H1"


def test_a_twin_leads_by_its_likeness_less_that_of_others_alike():
    own = torch.tensor([[1.0, 2, 3], [3, 2, 1], [1, 5, 2]]).T  # (cell, member)
    labels = torch.tensor([7, 7, 8])  # the third has nobody alike
    assert leads_over_alike(own, own, labels).tolist() == pytest.approx([2, 2])
    assert leads_over_alike(own, own, torch.arange(3)).tolist() == [0]


def test_a_statistic_of_means_is_of_the_pairs_that_are_asked_for():
    one = torch.tensor([[1.0, 9.0], [2.0, 0.0], [3.0, 0.0]])
    other = torch.tensor([[1.0, -9.0], [2.0, 0.0], [3.0, 0.0]])
    over = of_means(correlation, one, other)
    assert over(torch.tensor([0, 0])) == pytest.approx(1)
    assert over(torch.tensor([1])) == pytest.approx(-1)
    assert over() == pytest.approx(correlation(one.mean(-1), other.mean(-1)))


def test_other_heads_are_of_the_same_layers_and_none_comes_twice():
    named = [0, 1, 13]  # of layers 0, 0 and 3, four heads each
    others = others_of_layers(named, 4, 4)
    assert [head // 4 for head in others] == [0, 0, 3]
    assert len({*named, *others}) == 6
    assert others_of_layers(named, 4, 4) == others
    assert others_of_layers([0, 1, 2], 4, 4) == [3]


def test_effects_in_another_task_are_counted_above_a_bound_and_with_their_signs():
    # means: 4 and 1; 2 and -1
    effects = {
        "multiply": torch.tensor([[5.0, 3], [1, 1]]),
        "copy": torch.tensor([[2.0, 2], [0, -2]]),
    }
    both = InTasks(effects)
    assert both.beside("copy") == pytest.approx(2 / 5)
    assert both.beside("copy", least=-torch.inf) == pytest.approx(1 / 5)
    assert both.beside("copy", torch.tensor([1]), -torch.inf) == pytest.approx(0)
    assert both.cells(slice(1)).beside("copy") == pytest.approx(1 / 2)
    assert both.cells(slice(1)).sums()["copy"] == "200% (200% to 200%)"
    assert both.sums()["copy"].startswith("100% (")
    nothing = InTasks({"copy": torch.full((1, 2), -0.001)})
    assert nothing.sums()["copy"] == "0% (0% to 0%)"  # and not "-0%"
