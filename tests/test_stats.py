"""Shares and distances with known answers."""

import pytest
import torch

from addlib.stats import d_prime, extreme_share, keeps_sign


def test_an_observer_that_always_says_the_same_tells_nothing_apart():
    assert d_prime(100, 100, 100, 100) == 0
    assert d_prime(0, 100, 0, 100) == 0


def test_d_prime_is_finite_and_grows_with_what_is_told_apart():
    assert 5 < d_prime(1000, 1000, 0, 1000) < 7
    assert d_prime(841, 1000, 500, 1000) == pytest.approx(1, abs=0.01)
    assert d_prime(500, 1000, 841, 1000) == -d_prime(841, 1000, 500, 1000)


def test_counts_that_are_no_proportion_are_refused():
    with pytest.raises(ValueError, match="11 of 10"):
        d_prime(11, 10, 0, 10)


def test_the_interval_is_that_of_the_smallest_share():
    generator = torch.Generator().manual_seed(0)
    hits = (torch.rand(4, 1000, generator=generator) < 0.5).double()
    everyone = torch.ones(4, 1000, dtype=torch.bool)
    value, (low, high) = extreme_share(hits, everyone)
    assert value == hits.mean(1).min()
    assert low < value <= high
    # that of a single cell reaches higher than that of the smallest of four
    one = extreme_share(hits[hits.mean(1).argmin()][None], everyone[:1])[1]
    assert high < one[1]
    assert extreme_share(hits, everyone, torch.amax)[0] == hits.mean(1).max()


def test_shares_are_of_those_that_count():
    hits = (torch.arange(100) < 50).double()[None]
    among = hits > 0
    assert extreme_share(hits, among) == (1, (1, 1))
    with pytest.raises(ValueError, match="no member"):
        extreme_share(hits, ~among & among)


def test_members_can_have_weights():
    hits = torch.tensor([[1.0, 3.0, 9.0, 9.0], [0.0, 0.0, 5.0, 7.0]])
    weights = torch.tensor([[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.1]])
    smallest, (low, high) = extreme_share(hits, weights)
    assert smallest == pytest.approx(2.5)
    assert low <= 1
    assert high == pytest.approx(3)


def test_a_sign_is_kept_where_the_interval_leaves_out_0_on_the_guessed_side():
    spread = torch.tensor([-1.0, 1.0]).repeat(10)
    values = torch.stack([5 + spread, 5 + spread, 0.1 + spread, -5 + spread])
    guesses = torch.tensor([1.0, -1.0, 1.0, -2.0])
    assert keeps_sign(values, guesses) == [True, False, False, True]
