"""Waves: an orthonormal basis for any p, planted frequencies found, random ones not."""

import itertools
import math

import numpy as np
import pytest
import torch

from addlib.geometry.fourier import (
    component_cosines,
    fourier_2d,
    fourier_basis,
    fourier_norms,
    frequency_part,
    frequency_plane,
    frequency_shares,
    gini,
    key_frequencies,
    neuron_frequencies,
    null_share,
    ring,
    row_frequencies,
    turning,
)


def wave(p, k, phase=0.0):
    return (2 * math.pi * k * torch.arange(p, dtype=torch.float64) / p + phase).cos()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def circles(p, frequencies, d=32, seed=0):
    """Numbers on one circle per frequency, each in a random plane of d dimensions."""
    planes = torch.linalg.qr(random(d, 2 * len(frequencies), seed=seed)).Q
    waves = [wave(p, k, phase) for k in frequencies for phase in (0.0, -math.pi / 2)]
    return torch.stack(waves, 1) @ planes.T


# --------------------------------------------------------------------------- basis
@pytest.mark.parametrize("p", [*range(2, 13), 113, 1000])
def test_the_basis_is_orthonormal_and_its_rows_are_the_waves_in_order(p):
    basis = fourier_basis(p)
    assert basis.shape == (p, p)
    assert torch.allclose(basis @ basis.T, torch.eye(p, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (row_frequencies(p)[0], row_frequencies(p)[-1]) == (0, p // 2)
    for row in range(1, p):
        phase = 0.0 if row % 2 else -math.pi / 2  # cosine, sine, cosine, …
        expected = wave(p, int(row_frequencies(p)[row]), phase)
        assert basis[row] @ expected == pytest.approx(float(expected.norm()))


def test_the_basis_of_4_by_hand():
    h, r = 0.5, math.sqrt(0.5)
    assert fourier_basis(4).numpy() == pytest.approx(
        np.array([[h, h, h, h], [r, 0, -r, 0], [0, r, 0, -r], [h, -h, h, -h]]), abs=1e-12
    )


@pytest.mark.parametrize("p", [7, 10, 113])
def test_norms_by_frequency_are_those_of_the_fast_fourier_transform(p):
    W = random(3, p, 5)
    spectrum = np.abs(np.fft.rfft(W.numpy(), axis=1)) ** 2
    spectrum[:, 1 : (p + 1) // 2] *= 2
    power = spectrum.sum(2)[:, 1:]
    assert frequency_shares(W).numpy() == pytest.approx(power / power.sum(1, keepdims=True))
    assert fourier_norms(W).square().sum(1).numpy() == pytest.approx(W.square().sum((1, 2)).numpy())


# ------------------------------------------------------------------ key frequencies
@pytest.mark.parametrize(
    ("p", "planted"), [(113, [14, 35, 41, 42, 52]), (64, [3, 20, 32]), (59, [1])]
)
def test_planted_frequencies_are_found_in_noise_strongest_first(p, planted):
    strength = torch.linspace(2, 1, len(planted)).double()
    W = sum(s * circles(p, [k], seed=k) for s, k in zip(strength, planted, strict=True))
    assert key_frequencies(W + 0.05 * random(p, 32, seed=9) + 3.0) == planted


def test_weak_key_frequencies_are_found_behind_strong_ones():
    planes = torch.linalg.qr(random(32, 8, seed=4)).Q
    sizes = {14: 1.0, 35: 0.9, 41: 0.8, 52: 0.25}  # 52 has 2.5 % of the squared norm
    waves = [
        size * wave(113, k, phase) for k, size in sizes.items() for phase in (0.0, -math.pi / 2)
    ]
    W = torch.stack(waves, 1) @ planes.T + 0.002 * random(113, 32, seed=5) + 1.0
    assert 52 not in key_frequencies(W)
    assert key_frequencies(W, least=0.01) == [14, 35, 41, 52]
    assert key_frequencies(W, least=0.05) == [14, 35, 41]
    assert key_frequencies(circles(113, [7]), least=0.01) == [7]  # nothing is left beside it
    order = torch.randperm(113, generator=torch.Generator().manual_seed(5))
    assert key_frequencies(W[order], least=0.01) == []


def test_shuffled_numbers_have_no_key_frequencies():
    W = circles(113, [14, 35, 41, 42, 52])
    order = torch.randperm(113, generator=torch.Generator().manual_seed(5))
    assert key_frequencies(W[order]) == []


def test_random_matrices_seldom_have_key_frequencies():
    """Of full and of low rank, as W_out · W_U is: 1 in 100 is expected."""
    full = sum(bool(key_frequencies(random(53, 40, seed=i))) for i in range(100))
    low = sum(
        bool(key_frequencies(random(53, 3, seed=i) @ random(3, 60, seed=1000 + i)))
        for i in range(100)
    )
    assert full <= 4
    assert low <= 4


def test_the_rule_is_the_null():
    W = circles(53, [4, 9]) + 0.3 * random(53, 32)
    shares, null = frequency_shares(W), null_share(W)
    assert 1 / 26 < null < 0.25
    assert set(key_frequencies(W)) == set(((shares > null).nonzero()[:, 0] + 1).tolist()) == {4, 9}
    assert null_share(W) == null  # seeded
    assert null_share(W, seed=1) != null
    assert null_share(W, quantile=0.5) < null


def test_circles_in_planes_of_their_own_have_orthogonal_components():
    W = circles(113, [14, 35])
    assert torch.allclose(component_cosines(W, [14, 35]), torch.eye(4).double(), atol=1e-9)
    shared = torch.stack([wave(10, 2), wave(10, 3)], 1) @ random(2, 1)  # two waves in one direction
    cosines = component_cosines(shared, [2, 3])
    assert abs(float(cosines[0, 2])) == pytest.approx(1)
    assert component_cosines(random(10, 4), [5]).tolist() == [[pytest.approx(1)]]  # no sine at p/2


# ------------------------------------------------------------------------------ Gini
def test_gini_by_hand():
    by_hand = torch.tensor([[2.0, 2, 2, 2], [0, 0, 0, 5]])
    assert gini(by_hand).tolist() == pytest.approx([0, 0.75])
    x = random(9).abs()
    differences = sum(abs(float(a - b)) for a, b in itertools.product(x, x))
    # its other definition
    assert float(gini(x)) == pytest.approx(differences / (2 * 9**2 * float(x.mean())))
    assert float(gini(7 * x.flip(0))) == pytest.approx(float(gini(x)))


# ----------------------------------------------------------------- functions of pairs
@pytest.mark.parametrize(("p", "k"), [(7, 2), (10, 3), (10, 5), (113, 40)])
def test_a_wave_of_the_sum_is_two_products_of_waves(p, k):
    sums = torch.arange(p)[:, None] + torch.arange(p)
    coefficients = fourier_2d((2 * math.pi * k * sums / p).double().cos())
    expected = torch.zeros(p, p, dtype=torch.float64)
    if 2 * k == p:
        expected[-1, -1] = p
    else:
        cos, sin = 2 * k - 1, 2 * k
        expected[cos, cos], expected[sin, sin] = p / 2, -p / 2
    assert torch.allclose(coefficients, expected, atol=1e-4 * p)


def test_the_transform_of_pairs_is_over_a_first_and_keeps_the_norm():
    f = random(6, 6, 2, 3)
    basis = fourier_basis(6)
    assert torch.allclose(fourier_2d(f), torch.einsum("ia,jb,ab...->ij...", basis, basis, f))


@pytest.mark.parametrize("p", [11, 12])
def test_neurons_are_clustered_by_their_frequency(p):
    a, b = wave(p, 2)[:, None].expand(p, p), wave(p, 2, 1.0).expand(p, p)
    mixed = wave(p, 1)[:, None] * wave(p, 4, 0.3)  # a product of two frequencies belongs to none
    noise = random(p, p)
    last = wave(p, p // 2)[:, None] + wave(p, p // 2) - 3
    neurons = [
        1 + a + b,
        a * b + 2 * a,
        last,
        3 * a + wave(p, 4)[:, None],
        mixed,
        noise,
        torch.full((p, p), 0.1),
    ]
    found = neuron_frequencies(torch.stack(neurons, -1))
    assert found.frequency.tolist()[:4] == [2, 2, p // 2, 2]
    assert found.share.tolist()[:5] == pytest.approx([1, 1, 1, 0.9, 0], abs=1e-9)
    assert found.share[5] < 0.3
    assert found.shares.shape == (p // 2, 7)
    assert found.shares[[1, 3], 3].tolist() == pytest.approx([0.9, 0.1], abs=1e-9)
    assert (found.frequency[6], found.share[6]) == (0, 0)
    clusters = {k: neurons.tolist() for k, neurons in found.clusters(0.85).items()}
    assert clusters == {2: [0, 1, 3], p // 2: [2]}
    assert list(clusters) == [2, p // 2]
    assert found.clusters(0.95)[2].tolist() == [0, 1]
    # a constant neuron is in no cluster
    assert 6 not in torch.cat(list(found.clusters(0.0).values()))


# -------------------------------------------------------------------------- circles
@pytest.mark.parametrize("p", [7, 12, 113])
def test_numbers_on_a_circle_are_seen_there(p):
    frequencies = [1, 3]
    W = 2.5 * circles(p, frequencies)
    for k in frequencies:
        points = frequency_plane(W, k)
        angle = 2 * math.pi * k * torch.arange(p).double() / p
        assert torch.allclose(points, 2.5 * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-9)
        assert turning(points, k) == pytest.approx(1)
        assert turning(points, 2) == pytest.approx(0, abs=1e-9)  # turns too far or not far enough


def test_a_skew_circle_is_seen_as_the_ellipse_it_is():
    across = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]], dtype=torch.float64)
    W = torch.stack([wave(12, 2), 0.5 * wave(12, 2, -math.pi / 2)], 1) @ across
    points = frequency_plane(W, 2)
    assert torch.allclose(points.norm(dim=1), W.norm(dim=1))  # the plane holds all of it
    assert torch.allclose(points[0], torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert 0.8 < turning(points, 2) < 0.999


def test_shuffled_numbers_do_not_turn():
    W = circles(113, [14])
    shuffled = W[torch.randperm(113, generator=torch.Generator().manual_seed(3))]
    assert (
        turning(
            frequency_plane(W, 14)[torch.randperm(113, generator=torch.Generator().manual_seed(4))],
            14,
        )
        < 0.3
    )
    assert turning(frequency_plane(shuffled, 14), 14) < 0.9


def test_every_frequency_of_a_wide_random_embedding_shows_a_blurred_circle():
    seen = [turning(frequency_plane(random(113, 128, seed=seed), 14), 14) for seed in range(5)]
    assert all(0.6 < value < 0.95 for value in seen)


def test_half_of_p_has_no_plane():
    with pytest.raises(ValueError, match="a cosine only"):
        frequency_plane(random(8, 4), 4)


def test_a_ring_has_the_order_of_a_circle():
    points = ring(circles(13, [5]), 5)
    angle = 2 * math.pi * torch.arange(13).double() / 13
    assert torch.allclose(points, torch.stack([angle.cos(), angle.sin()], 1), atol=1e-9)


def test_the_part_at_some_frequencies_is_what_was_planted_there():
    strong, weak = circles(53, [4]), 0.1 * circles(53, [9], seed=1)
    W = 0.2 + strong + weak
    assert torch.allclose(frequency_part(W, [9]), weak, atol=1e-9)
    assert torch.allclose(frequency_part(W, [9, 4]), strong + weak, atol=1e-9)
    assert frequency_part(W, [5]).abs().max() < 1e-9
