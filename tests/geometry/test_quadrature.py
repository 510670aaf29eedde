"""Clusters of neurons whose phases are planted, against the integral that they compute."""

import math

import pytest
import torch

from addlib.geometry.progress_measures import fit_cosines
from addlib.geometry.quadrature import (
    Cluster,
    doubled_in_step,
    product_share,
    reading_only,
    wave_at,
)

P = 23


def numbers():
    return torch.arange(P).double()


def planted(phases, frequency=3, out=2.0):
    """Neurons that read cos(ω a - φ) + cos(ω b - φ) and write cos(ω c - out φ)."""
    turns = 2 * math.pi * frequency * numbers()[:, None] / P
    read = torch.cos(turns - phases)
    return read[:, None] + read, torch.cos(turns - out * phases)


def random_phases(count, seed=0):
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 2 * math.pi * drawn


@pytest.mark.parametrize("frequency", [1, 7, 10])
def test_a_wave_is_found(frequency):
    function = 3 * torch.cos(2 * math.pi * frequency * numbers() / P - 0.7)[:, None] + 5
    z = wave_at(function, frequency)
    assert float(z.abs()) == pytest.approx(3)
    assert float(-z.angle()) == pytest.approx(0.7)
    assert float(wave_at(function, frequency % 7 + 2).abs()) == pytest.approx(0, abs=1e-12)


def test_neurons_of_a_pizza_have_phases_that_add_and_need_nothing_else():
    phases = random_phases(50)
    pre, W_L = planted(phases)
    cluster = Cluster.of(pre, W_L, 3)
    assert torch.allclose(cluster.phase_match, torch.ones(50, dtype=torch.float64))
    assert torch.allclose(torch.cos(cluster.direction - phases), torch.ones(50).double())
    assert torch.allclose(reading_only(pre, [3]), pre.relu(), atol=1e-12)


def test_neurons_that_write_another_phase_do_not_match():
    pre, W_L = planted(random_phases(400), out=1.0)
    assert abs(float(Cluster.of(pre, W_L, 3).phase_match.mean())) < 0.1
    pre, W_L = planted(random_phases(50))
    assert torch.allclose(Cluster.of(pre, -W_L, 3).phase_match, -torch.ones(50).double())


@pytest.mark.parametrize("phases", [2 * math.pi * torch.arange(16).double() / 16, None])
def test_quadrature_weights_integrate(phases):
    """Evenly spread or drawn at random, the phases give the integral's cosine."""
    phases = random_phases(300) if phases is None else phases
    pre, _ = planted(phases)
    cluster = Cluster.of(pre, torch.zeros(P, len(phases)), 3)
    logits = reading_only(pre, [3]) @ cluster.quadrature(P).T
    a, b, c = torch.meshgrid(*[numbers()] * 3, indexing="ij")
    omega = 2 * math.pi * 3 / P
    strength = torch.cos(omega * (a - b) / 2).abs()
    integral = 4 / 3 * strength * torch.cos(omega * (a + b - c))
    assert (logits - integral).abs().max() < 0.06
    assert float(fit_cosines(logits, [3]).residual_share) < 0.2


def test_what_neurons_read_besides_is_taken_out():
    pre, _ = planted(random_phases(5))
    other, _ = planted(random_phases(5, seed=1), frequency=4)
    mixed = pre + 2 * other + (numbers()[:, None] - 11)[..., None] * (numbers() - 11)[:, None] + 1
    assert torch.allclose(reading_only(mixed, [3]), (pre + 1).relu(), atol=1e-9)
    assert torch.allclose(reading_only(mixed, [3, 4]), (pre + 2 * other + 1).relu(), atol=1e-9)


def test_products_have_their_share():
    pre, _ = planted(random_phases(5))
    assert product_share(pre + 3) == pytest.approx(0, abs=1e-12)
    wave = torch.cos(2 * math.pi * numbers() / P)
    product = (wave[:, None] * wave)[..., None]
    assert product_share(product) == pytest.approx(1)
    assert product_share(wave[:, None, None] + 2 * product) == pytest.approx(2 / 3)


def test_stretches_go_once_around():
    cluster = Cluster.of(*planted(torch.tensor([0.0, 1.0, 3.0]).double()), 3)
    rest = 2 * math.pi - 3
    expected = [(1 + rest) / 2, 1.5, (2 + rest) / 2]
    assert cluster.stretches.tolist() == pytest.approx(expected)


def test_larger_neurons_get_less_weight():
    phases = 2 * math.pi * torch.arange(16).double() / 16
    pre, W_L = planted(phases)
    sizes = torch.linspace(1, 3, 16).double()
    plain, scaled = (Cluster.of(x, W_L, 3) for x in (pre, pre * sizes))
    assert torch.allclose(scaled.quadrature(P) * sizes, plain.quadrature(P), atol=1e-9)


@pytest.mark.parametrize(("late", "expected"), [(math.pi, 1.0), (0.0, -1.0), (math.pi / 2, 0.0)])
def test_a_doubled_wave_is_in_step_where_it_makes_up_for_the_pizza(late, expected):
    turns = 2 * math.pi * 3 * numbers()[:, None] / P
    phases = random_phases(40)
    rows = torch.cos(turns - phases) + 0.2 * torch.cos(2 * (turns - phases) - late)
    match, size = doubled_in_step(rows, 3)
    assert torch.allclose(match, torch.full((40,), expected).double(), atol=1e-9)
    assert torch.allclose(size, torch.full((40,), 0.2).double())


def test_a_doubled_wave_in_step_levels_the_right_answer():
    """With it the right logit depends less on a - b: the pizza's gaps are filled."""
    phases = 2 * math.pi * torch.arange(64).double() / 64
    turns = 2 * math.pi * 3 * numbers()[:, None] / P
    spreads = []
    for size in (0.0, 0.2):
        read = torch.cos(turns - phases) - size * torch.cos(2 * (turns - phases))
        logits = (read[:, None] + read).relu() @ planted(phases)[1].T
        a = torch.arange(P)
        right = logits[a[:, None], a, (a[:, None] + a) % P]
        spreads.append(float(right.std() / right.mean()))
    assert spreads[1] < 0.7 * spreads[0]
