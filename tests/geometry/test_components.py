"""Shapes: planted lines, parabolas and curves are found, random ones are not, probes have their
chance level.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from addlib.geometry.components import (
    closing,
    correlation,
    fit_linear,
    fit_parabola,
    pca,
    probe,
    readout_r2,
    winning_angles,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(n):
    return torch.arange(n, dtype=torch.float64)


def planted(n=10, d=32, seed=0, tilt=0.0):
    """Numbers on a line and, at a right angle to it, on a parabola; ``tilt`` adds noise."""
    directions = torch.linalg.qr(random(d, 2, seed=seed)).Q
    k = numbers(n) - (n - 1) / 2
    parabola = k.square() - k.square().mean()
    return (
        k[:, None] * directions[:, 0]
        + 0.1 * parabola[:, None] * directions[:, 1]
        + tilt * random(n, d, seed=99)
    )


def constants(rows, n):
    """Rows of a constant each, but for the rounding that a computation leaves."""
    return random(rows, 1) * (1 + 1e-15 * random(rows, n, seed=1))


def all_pairs(p):
    return torch.arange(p).repeat_interleave(p), torch.arange(p).repeat(p)


# ------------------------------------------------------------- principal components
def test_a_planted_line_and_parabola_are_the_first_two_components():
    for seed in range(4):  # random signs of the planted directions
        for sign in (1, -1):
            parts = pca(sign * planted(seed=seed) + 7.0)
            k = numbers(10)
            assert float(correlation(k, parts.scores[:, 0])) == pytest.approx(1)
            parabola = fit_parabola(k, parts.scores[:, 1])
            assert parabola.r2 == pytest.approx(1)
            assert parabola.curvature == pytest.approx(0.1)
            assert float(parts.shares[:2].sum()) == pytest.approx(1)


def test_components_rebuild_the_rows():
    rows = random(9, 5) + 3
    parts = pca(rows)
    assert parts.shares.shape == (5,)
    assert float(parts.shares.sum()) == pytest.approx(1)
    assert (parts.shares.diff() <= 0).all()
    assert torch.allclose(parts.directions @ parts.directions.T, torch.eye(5).double())
    assert torch.allclose(parts.keep(range(5)), rows)
    assert torch.allclose(parts.keep([]), rows.mean(0).expand(9, 5))
    assert torch.allclose(parts.keep([0, 2]), parts.remove([1, 3, 4]))
    gone = parts.remove([1]) - parts.mean
    assert float((gone @ parts.directions[1]).abs().max()) == pytest.approx(0, abs=1e-12)
    assert torch.allclose(parts.scores, (rows - rows.mean(0)) @ parts.directions.T)
    assert torch.allclose(
        parts.scores.var(0, correction=0), rows.var(0, correction=0).sum() * parts.shares
    )
    assert pca(random(4, 32)).shares.shape == (3,)


def test_signs_follow_the_rule_whatever_the_signs_of_the_rows():
    rows = random(12, 6, seed=3)
    parts, mirrored = pca(rows), pca(-rows)
    for one in (parts, mirrored):
        assert float(correlation(numbers(12), one.scores[:, 0])) > 0
        assert fit_parabola(numbers(12), one.scores[:, 1]).curvature > 0
        for direction in one.directions[2:]:
            assert direction[direction.abs().argmax()] > 0
    assert torch.allclose(parts.scores[:, :2], mirrored.scores[:, :2])
    assert torch.allclose(parts.scores[:, 2:], -mirrored.scores[:, 2:])
    for seed in range(30):
        assert fit_parabola(numbers(12), pca(random(12, 6, seed=seed)).scores[:, 1]).curvature > 0
    # A tent is even in the number: PC1 has no slope, so its largest entry decides.
    tent = (numbers(9) - 4).abs()[:, None] * torch.tensor([[1.0, -3.0]]).double()
    assert pca(tent).directions[0].tolist() == pytest.approx([-math.sqrt(0.1), math.sqrt(0.9)])
    assert pca(-tent).directions[0].tolist() == pytest.approx([-math.sqrt(0.1), math.sqrt(0.9)])


# ------------------------------------------------------------------------ linear fits
def test_a_circle_closes_and_a_line_does_not():
    angle = 2 * math.pi * torch.arange(10).double() / 10
    assert closing(torch.stack([angle.cos(), angle.sin()], 1)) == pytest.approx(1)
    assert closing(torch.arange(10.0)[:, None]) == pytest.approx(9)


def test_correlation_by_hand():
    x = torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, 4], [0.1, 0.1, 0.1, 0.1], [1, 0, 0, 1]])
    y = torch.tensor([[2.0, 4, 6, 8], [0, 0, 0, -1], [1, 2, 3, 4], [0, 1, 1, 0]])
    assert correlation(x, y).tolist() == pytest.approx([1, -3 / math.sqrt(15), 0, -1])
    assert not correlation(constants(20, 7), numbers(7)).any()
    assert not correlation(numbers(7), constants(20, 7)).any()
    expected = torch.corrcoef(torch.stack([random(50), random(50, seed=1)]))[0, 1]
    assert float(correlation(random(50), random(50, seed=1))) == pytest.approx(float(expected))


def test_a_linear_fit_has_the_planted_coefficients():
    features, weights = random(60, 4), random(4, 3, seed=1)
    targets = 5 + features @ weights
    fit = fit_linear(features, targets)
    assert torch.allclose(fit.coefficients, weights)
    assert fit.constant.tolist() == pytest.approx([5] * 3)
    assert fit.r2.tolist() == pytest.approx([1] * 3)
    assert torch.allclose(fit.predict(features), targets)
    noisy = fit_linear(
        features, torch.stack([targets[:, 0], random(60, seed=2), *constants(20, 60)], 1)
    )
    assert noisy.r2[1] < 0.25
    assert not noisy.r2[2:].any()  # constants have no variance to explain
    # collinear: the smallest coefficients
    twice = fit_linear(torch.cat([features, features], 1), targets)
    assert torch.allclose(twice.coefficients, torch.cat([weights, weights]) / 2)
    with pytest.raises(ValueError, match="4 rows of 4 features"):
        fit_linear(features[:4], targets[:4])


@settings(max_examples=50, deadline=None)
@given(*[st.floats(-5, 5)] * 3, st.integers(0, 10_000))
def test_a_parabola_is_the_one_planted(level, slope, curvature, start):
    k = numbers(12) + start
    y = level + slope * (k - start) + curvature * (k - start) ** 2
    fit = fit_parabola(k, y)
    assert fit.curvature == pytest.approx(curvature, abs=1e-6)
    if max(abs(slope), abs(curvature)) > 1e-3:
        assert fit.r2 == pytest.approx(1)


def test_a_planted_parabola_is_found_and_a_random_embedding_has_none():
    k = numbers(10)
    with_noise = pca(planted(tilt=0.05))
    assert fit_parabola(k, with_noise.scores[:, 1]).r2 > 0.97
    assert float(correlation(k, with_noise.scores[:, 0])) > 0.99
    assert float(with_noise.shares[:2].sum()) > 0.97
    controls = [pca(random(10, 128, seed=seed)) for seed in range(200)]
    bends = torch.tensor([fit_parabola(k, control.scores[:, 1]).r2 for control in controls])
    slopes = torch.stack([correlation(k, control.scores[:, 0]) for control in controls])
    assert float(bends.mean()) == pytest.approx(2 / 9, abs=0.05)
    assert float((bends > 0.8).double().mean()) < 0.02
    assert float((slopes > 0.9).double().mean()) < 0.02
    assert max(float(control.shares[:2].sum()) for control in controls) < 0.4


# -------------------------------------------------------------------------- probes
def test_a_probe_reads_a_planted_sum_and_shuffled_labels_put_it_at_chance():
    a, b = all_pairs(10)
    hidden = ((a + b)[:, None] * random(1, 512) + 5 * random(1, 512, seed=1)).relu() + 0.1 * random(
        100, 512, seed=2
    )
    found = probe(hidden, a + b)
    assert found.r2 > 0.99
    # the variance of the sum of two digits
    assert found.mse == pytest.approx((1 - found.r2) * 16.5)
    assert found.mse == pytest.approx(float((found.predicted - (a + b)).square().mean()))
    assert 16.5 < found.mean_mse < 19  # the mean of other rows, so a little worse than the variance
    assert found.shuffled_r2.shape == (20,)
    assert float(found.shuffled_r2.max()) < 0.1
    assert float(found.shuffled_r2.mean()) == pytest.approx(0, abs=0.1)
    labels = (a + b)[torch.randperm(100, generator=torch.Generator().manual_seed(8))]
    assert probe(hidden, labels).r2 < 0.1


def test_noise_tells_a_probe_nothing_though_features_outnumber_rows():
    a, b = all_pairs(10)
    found = probe(random(100, 512), a + b)
    assert found.r2 < 0.1
    assert found.mse > 0.9 * found.mean_mse


def test_a_probe_is_judged_on_sums_it_has_not_seen_where_groups_say_so():
    """One feature per sum: rows of the same sum help each other, but say nothing about another sum."""
    a, b = all_pairs(10)
    one_hot = torch.nn.functional.one_hot(a + b).double()
    assert probe(one_hot, a + b).r2 > 0.8
    assert probe(one_hot, a + b, groups=a + b).r2 < 0.1
    assert probe((a + b)[:, None].double(), a + b, groups=a + b).r2 > 0.99


def test_a_neuron_that_wakes_only_in_the_rows_left_out_does_not_upset_a_probe():
    a, b = all_pairs(10)
    hidden = 10 * ((a + b)[:, None] * random(1, 40) + 5 * random(1, 40, seed=1)).relu()
    sleeper = torch.where((a + b == 18) | (a + b == 0), 3.0, 1e-6 * random(100, 1)[:, 0])
    found = probe(torch.cat([hidden, sleeper[:, None]], 1), a + b, groups=a + b)
    assert found.r2 > 0.95


def test_a_random_embedding_of_enough_dimensions_gives_the_sum_away():
    a, b = all_pairs(10)
    W_E = random(10, 128)
    assert probe(torch.cat([W_E[a], W_E[b]], 1), a + b).r2 > 0.99


def test_probes_are_seeded():
    a, b = all_pairs(6)
    hidden = random(36, 8) + (a + b)[:, None]
    one, same, other = (probe(hidden, a + b, shuffles=3, seed=seed) for seed in (1, 1, 2))
    assert one.r2 == same.r2 != other.r2
    assert torch.equal(one.shuffled_r2, same.shuffled_r2)
    assert not torch.equal(one.shuffled_r2, other.shuffled_r2)
    # the same folds
    one, other = (probe(hidden, a + b, folds=36, shuffles=3, seed=seed) for seed in (1, 2))
    assert one.r2 == pytest.approx(other.r2)
    assert one.shuffled_r2.tolist() != pytest.approx(other.shuffled_r2.tolist())
    one = probe(hidden, a + b, shuffles=3, seed=1)
    alone = probe(hidden, a + b, shuffles=0, seed=1)
    assert len(alone.shuffled_r2) == 0
    assert alone.r2 == pytest.approx(one.r2)  # the shuffles have penalties of their own


def test_probes_refuse_what_they_cannot_judge():
    with pytest.raises(ValueError, match="NaN"):
        probe(random(20, 3).log(), numbers(20))
    with pytest.raises(ValueError, match="inconsistent"):
        probe(random(20, 3), numbers(19))
    with pytest.raises(ValueError, match="n_splits=5"):
        probe(random(4, 3), numbers(4))
    with pytest.raises(ValueError, match="groups"):
        probe(random(20, 3), numbers(20), groups=torch.arange(20) % 2)


# ------------------------------------------------------------------- convex curves
def test_corners_of_a_polygon_win_their_outer_angles():
    turn = 2 * math.pi * numbers(7) / 7
    polygon = torch.stack([turn.cos(), turn.sin()], 1)
    assert winning_angles(5 * polygon + 3).tolist() == pytest.approx([2 * math.pi / 7] * 7)
    with_centre = winning_angles(torch.cat([polygon, torch.zeros(1, 2)]))
    assert with_centre[7] == 0
    # a point on an edge, a double corner
    square = torch.tensor([[0.0, 0], [2, 0], [2, 2], [0, 2], [1, 0], [0, 0]])
    half = math.pi / 2
    assert winning_angles(square).tolist() == pytest.approx([0, half, half, half, 0, 0])
    assert winning_angles(square[:2]).tolist() == pytest.approx([math.pi, math.pi])


def test_winning_angles_are_how_often_a_random_direction_picks_each_point():
    points = random(9, 2)
    angle = 2 * math.pi * numbers(100_000) / 100_000
    picked = (torch.stack([angle.cos(), angle.sin()], 1) @ points.T).argmax(1)
    share = torch.bincount(picked, minlength=9) / 100_000
    assert winning_angles(points).div(2 * math.pi).tolist() == pytest.approx(
        share.tolist(), abs=1e-4
    )


def test_all_outputs_on_a_parabola_can_win_and_on_a_line_only_its_ends():
    c = numbers(19)
    parabola, line = torch.stack([c, -0.05 * c.square()], 1), torch.stack([c, 2 * c], 1)
    assert (winning_angles(parabola) > 0).all()
    assert (winning_angles(line) > 0).nonzero()[:, 0].tolist() == [0, 18]
    for seed in range(10):  # lines whose points are on them but for rounding
        assert (winning_angles(c[:, None] * random(1, 2, seed=seed)) > 0).sum() == 2
    assert (winning_angles(random(19, 2)) > 0).sum() < 12


# ---------------------------------------------------------------- readout by a curve
def test_logits_on_the_parabola_are_explained_whatever_each_rows_constant():
    a, b = all_pairs(10)
    sums, c = a + b, numbers(19)
    logits = 1.7 * (2 * sums[:, None] * c - c.square()) + 40 * random(100, 1)
    assert readout_r2(logits, sums) == pytest.approx(1)
    assert torch.equal(logits.argmax(1), sums)


def test_logits_with_another_crest_or_of_no_curve_are_not_explained():
    a, b = all_pairs(10)
    c, crest = numbers(19), 0.5 * (a + b) + 4.3
    assert readout_r2(-0.3 * (crest[:, None] - c).square(), a + b) < 0.9
    assert abs(readout_r2(random(100, 19), a + b)) < 0.01
    one_hot = torch.nn.functional.one_hot(a + b)
    assert torch.equal(one_hot.argmax(1), a + b)
    assert readout_r2(5 * one_hot.double(), a + b) < 0.3  # right, but flat elsewhere
