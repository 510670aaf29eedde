"""Neurons that add up waves: their phases in and out, one-frequency fits, quadrature weights.

A neuron that reads cos(ω a - φ) + cos(ω b - φ) reads the midpoint of two points on a circle, seen
from the direction φ. Summed over all directions evenly::

    ∫ ReLU(cos(ω a - φ) + cos(ω b - φ)) cos(ω c - 2φ) dφ = 4/3 |cos(ω (a - b) / 2)| cos ω (a + b - c)

A layer of finitely many neurons computes such an integral as a *quadrature*, a weighted sum over
the phases it has (Yip, Agrawal, Chan & Gross 2024, arXiv 2412.03773). What follows describes the
neurons of one frequency k: pre-activations are (a, b, neuron), output weights (c, neuron). The wave
of a function f at frequency k is the complex z with f ≈ Re z e^{iωa}, so that its phase φ, as in
cos(ω a - φ), is -arg z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from addlib.geometry.fourier import frequency_part


def wave_at(values: Float[Tensor, "p n"], frequency: int) -> Complex[Tensor, " n"]:
    """The wave of each column, a function of the numbers 0…p-1, at a frequency below p/2."""
    return 2 / len(values) * _turns(len(values), -frequency, values.device) @ (values.double() + 0j)


def _turns(p: int, frequency: int, device: torch.device) -> Complex[Tensor, " p"]:
    """e^{iωa} at the numbers 0…p-1."""
    angle = 2 * math.pi * (frequency * torch.arange(p, device=device) % p).double() / p
    return torch.polar(torch.ones_like(angle), angle)


@dataclass(frozen=True)
class Cluster:
    """Neurons of one frequency: the waves they read in a and in b, and the wave they write."""

    frequency: int
    in_a: Complex[Tensor, " neuron"]
    in_b: Complex[Tensor, " neuron"]
    out: Complex[Tensor, " neuron"]

    @classmethod
    def of(
        cls, pre: Float[Tensor, "p p neuron"], W_L: Float[Tensor, "p neuron"], frequency: int
    ) -> Cluster:
        """The waves of these neurons at a frequency."""
        return cls(
            frequency=frequency,
            in_a=wave_at(pre.mean(1), frequency),
            in_b=wave_at(pre.mean(0), frequency),
            out=wave_at(W_L, frequency),
        )

    @property
    def phase_match(self) -> Float[Tensor, " neuron"]:
        """Cosine of the phase out less both phases in: 1 where the neuron votes for a + b."""
        return torch.cos(self.in_a.angle() + self.in_b.angle() - self.out.angle())

    @property
    def direction(self) -> Float[Tensor, " neuron"]:
        """The direction φ from which a neuron sees the midpoint: between its two phases, -π to π."""
        return -(self.in_a.sgn() + self.in_b.sgn()).angle()

    @property
    def stretches(self) -> Float[Tensor, " neuron"]:
        """Length of the stretch that is nearer to a neuron's direction than to any other's."""
        phi = self.direction
        order = phi.argsort()
        gaps = phi[order].diff(append=phi[order[:1]] + 2 * math.pi)
        length = torch.empty_like(phi)
        length[order] = (gaps + gaps.roll(1)) / 2
        return length

    def quadrature(self, p: int) -> Float[Tensor, "p neuron"]:
        """Output weights of the integral, up to one factor for all neurons.

        A neuron stands for its stretch of the circle, less where its own waves are larger.
        """
        size = self.stretches / ((self.in_a.abs() + self.in_b.abs()) / 2)
        z = torch.polar(size, -2 * self.direction)
        return (_turns(p, self.frequency, z.device)[:, None] * z).real


def product_share(pre: Float[Tensor, "p p neuron"]) -> float:
    """Share of the variance of what neurons read that is neither a function of a nor of b alone."""
    f = pre.double() - pre.double().mean((0, 1))
    alone = sum(f.mean(axis).square().sum() * len(f) for axis in (0, 1))
    return max(0.0, float(1 - alone / f.square().sum()))


def reading_only(
    pre: Float[Tensor, "p p neuron"], frequencies: Sequence[int]
) -> Float[Tensor, "p p neuron"]:
    """Activations if neurons read nothing but their mean and waves of a and of b, as named."""
    a, b = (frequency_part(pre.mean(axis), frequencies) for axis in (1, 0))
    return (pre.double().mean((0, 1)) + a[:, None] + b).relu()


def doubled_in_step(
    rows: Float[Tensor, "p neuron"], frequency: int
) -> tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """How the wave at twice a frequency stands to the wave at it, column by column.

    A pizza's neurons see least of numbers half a turn apart. A wave of twice the frequency that is
    lowest where the first one is at its crest or trough, -cos 2(ω a - φ) beside cos(ω a - φ), makes
    up for it: through the ReLU's mean slope it adds -cos ω (a - b) cos ω (a + b - c).

    Returns:
        Cosine between the second wave and such a wave, from -1 to 1; and the second wave's size
        over the first one's.
    """
    first, second = wave_at(rows, frequency), wave_at(rows, 2 * frequency)
    return -torch.cos(second.angle() - 2 * first.angle()), second.abs() / first.abs()
