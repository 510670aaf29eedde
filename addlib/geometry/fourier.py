"""Functions on the numbers 0…p-1 as sums of waves: basis, norms by frequency, neuron clusters.

A modular sum wraps around, so waves cos(ω_k a), sin(ω_k a) with ω_k = 2πk/p are its natural
coordinates: rotating by ω_k a and then by ω_k b lands at ω_k (a + b), whatever the number of turns.
Frequencies k run from 1 to p/2; each has a cosine and a sine, but p/2 itself, for even p, has only
the cosine (+1, -1, +1, …; Nyquist's frequency).

The measures are those of Nanda, Chan, Lieberum, Smith & Steinhardt (ICLR 2023, arXiv 2301.05217),
for any p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize


# ----------------------------------------------------------------------------- basis
def fourier_basis(p: int) -> Float[Tensor, "p p"]:
    """Orthonormal rows: constant, cos 1, sin 1, cos 2, sin 2, …, and for even p cos p/2 last.

    Row i at column a is the wave of frequency :func:`row_frequencies` [i] at the number a. The
    rows' inverse is their transpose: ``basis.T @ (basis @ W)`` is W.
    """
    k = row_frequencies(p)
    a = torch.arange(p)
    # k · a mod p first: angles stay small, so large p loses no digits.
    angle = 2 * math.pi * (k[:, None] * a % p).double() / p
    is_sine = (a > 0) & (a % 2 == 0)
    rows = torch.where(is_sine[:, None], angle.sin(), angle.cos())
    return rows / rows.norm(dim=1, keepdim=True)


def row_frequencies(p: int) -> Int[Tensor, " p"]:
    """Frequency k of each row of the basis: 0, 1, 1, 2, 2, … up to p // 2."""
    return (torch.arange(p) + 1) // 2


# ----------------------------------------------------------- functions of one number
def fourier_norms(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch p"]:
    """Norm of W's component along each row of the basis, over its d columns, in W's unit.

    W is a function of the number in its next to last axis: the embedding's number rows, or (W_out ·
    W_U) transposed.
    """
    return _transformed(W).norm(dim=-1)


def frequency_shares(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch frequencies"]:
    """Share of W's squared norm, less its constant part, in each frequency 1…p // 2."""
    power = fourier_norms(W).square()[..., 1:]
    place = row_frequencies(W.shape[-2])[1:].to(power.device) - 1
    shares = power.new_zeros(*power.shape[:-1], W.shape[-2] // 2)
    return shares.index_add(-1, place, power / power.sum(-1, keepdim=True))


def null_share(
    W: Float[Tensor, "p d"], quantile: float = 0.99, draws: int = 200, seed: int = 0
) -> float:
    """The largest share of any frequency to expect where the order of the numbers means nothing.

    Control: W's rows shuffled, ``draws`` times; the quantile over the draws of the largest of
    :func:`frequency_shares`. Shuffling keeps W's singular values, so a matrix of low rank is
    compared with its like.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(W), generator=generator) for _ in range(draws)])
    # A rotation of the columns changes no norm.
    u, sizes, _ = torch.linalg.svd(W.double(), full_matrices=False)
    return float(frequency_shares((u * sizes)[orders]).max(-1).values.quantile(quantile))


def key_frequencies(W: Float[Tensor, "p d"], least: float | None = None) -> list[int]:
    """Frequencies whose share of W's squared norm is above :func:`null_share`, strongest first.

    Of random matrices about 1 in 100 has such a frequency. The list is empty where none stands out.

    Args:
        least: with a number, e.g. 0.01, a weaker key frequency is not hidden by stronger ones: what
            was found is taken out, and the search goes on in the rest of W, down to frequencies
            with this share of the *whole* W.
    """
    shares = frequency_shares(W)
    threshold = null_share(W)
    keys = [
        int(place) + 1 for place in shares.argsort(descending=True) if shares[place] > threshold
    ]
    if least is None or not keys or len(keys) == len(shares):
        return keys
    if shares.sum() - shares[torch.tensor(keys) - 1].sum() < least:
        return keys
    is_taken = torch.isin(row_frequencies(len(W)), torch.tensor([0, *keys]))
    taken = fourier_basis(len(W))[is_taken].to(W.device)
    weaker = key_frequencies(W.double() - taken.T @ (taken @ W.double()), least)
    return keys + [k for k in weaker if shares[k - 1] >= least and k not in keys]


def component_cosines(
    W: Float[Tensor, "p d"], frequencies: Sequence[int]
) -> Float[Tensor, "row row"]:
    """Cosine similarities of W's components cos k, sin k, as directions in its d columns.

    Rows and columns in the order cos, sin of the first frequency, then of the second. Off the
    diagonal, 0 everywhere means that the waves lie in planes of their own and are circles, not
    ellipses' skew axes. A component of norm 0 has similarity 0 to all, itself included.
    """
    row_of = row_frequencies(len(W))
    rows = torch.cat([(row_of == k).nonzero()[:, 0] for k in frequencies])
    directions = normalize(_transformed(W)[rows], dim=-1)
    return directions @ directions.T


def frequency_plane(W: Float[Tensor, "p d"], frequency: int) -> Float[Tensor, "p 2"]:
    """The numbers in the plane of W's components cos k (the first axis) and sin k, in W's unit.

    On a circle that turns by ω_k from each number to the next, number a is at the angle ω_k a. A
    random W of many columns makes a blurred circle in the plane of *every* frequency, since the
    plane was fitted to its rows: compare.

    Raises:
        ValueError: p/2, which has no sine and so no plane.
    """
    p = len(W)
    if 2 * frequency == p:
        raise ValueError(f"frequency {frequency} at p = {p}: has a cosine only, so no plane")
    along = _transformed(W)[row_frequencies(p) == frequency]  # directions in the d columns
    axes, sizes = torch.linalg.qr(along.T)
    return W.double() @ (axes * sizes.diagonal().sign())


def ring(W: Float[Tensor, "p d"], frequency: int) -> Float[Tensor, "p 2"]:
    """The numbers in the plane of a frequency, in the order in which a circle would have them."""
    order = (frequency * torch.arange(len(W)) % len(W)).argsort()
    return frequency_plane(W, frequency)[order.to(W.device)]


def frequency_part(W: Float[Tensor, "p d"], frequencies: Sequence[int]) -> Float[Tensor, "p d"]:
    """W's part along the waves of these frequencies."""
    basis = fourier_basis(len(W)).to(W.device)
    wanted = torch.tensor(list(frequencies), dtype=torch.long)
    rows = basis[torch.isin(row_frequencies(len(W)), wanted).to(W.device)]
    return rows.T @ rows @ W.double()


def turning(points: Float[Tensor, "p 2"], frequency: int) -> float:
    """How steadily points turn by ω_k a number: 1 for a circle, about 1/√p for random points.

    The length of the mean of the unit vectors at (angle of point a) - ω_k a.
    """
    p = len(points)
    expected = 2 * math.pi * frequency * torch.arange(p).to(points) / p
    off = torch.atan2(points[:, 1], points[:, 0]) - expected
    return float(torch.polar(torch.ones_like(off), off).mean().abs())


def gini(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Gini coefficient of non-negative numbers: 0 if all are alike, 1 - 1/n if one has everything.

    Its rise says that norms by frequency become sparse.
    """
    n = x.shape[-1]
    ascending = x.double().sort(-1).values
    rank_weight = 2 * torch.arange(1, n + 1, device=x.device) - n - 1
    return (ascending * rank_weight).sum(-1) / (n * ascending.sum(-1))


def _transformed(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch p d"]:
    return fourier_basis(W.shape[-2]).to(W.device) @ W.double()


# ---------------------------------------------------------- functions of two numbers
def fourier_2d(f: Float[Tensor, "p p *rest"]) -> Float[Tensor, "p p *rest"]:
    """Coefficients of f(a, b) on the products of two rows of the basis, over a and over b.

    E.g. cos(ω_k (a + b)) has p/2 at (cos k, cos k) and -p/2 at (sin k, sin k), all else 0.
    """
    p = len(f)
    basis = fourier_basis(p).to(f.device)
    over_a = basis @ f.double().reshape(p, -1)  # (row of a, b · rest)
    return (basis @ over_a.reshape(p, p, -1)).reshape(f.shape)


@dataclass(frozen=True)
class NeuronFrequencies:
    """For each neuron, the frequency that explains most of its variance, and its share of it."""

    frequency: Int[Tensor, " neuron"]  # 1…p // 2, or 0 for a neuron that is constant
    share: Float[Tensor, " neuron"]
    shares: Float[Tensor, "frequency neuron"]  # of all frequencies, 1 first

    def clusters(self, least: float) -> dict[int, Int[Tensor, " some"]]:
        """Neurons by frequency, where it explains more than ``least`` ≥ 0; the largest first."""
        is_served = self.share > least
        numbers = [
            ((self.frequency == k) & is_served).nonzero()[:, 0]
            for k in self.frequency[is_served].unique()
        ]
        largest_first = sorted(numbers, key=len, reverse=True)
        return {int(self.frequency[neurons[0]]): neurons for neurons in largest_first}


def neuron_frequencies(activations: Float[Tensor, "p p neuron"]) -> NeuronFrequencies:
    """Share of each neuron's variance over all pairs that one frequency explains.

    A frequency's share: the squared coefficients of its waves in a, in b, and of their products
    (eight terms; three at p/2), over those of all terms but the constant. Products of two different
    frequencies belong to none.
    """
    power = fourier_2d(activations).square()
    size = power.sum((0, 1))
    power[0, 0] = 0
    of_row = row_frequencies(len(power)).to(power.device)
    explained = []
    for k in range(1, len(power) // 2 + 1):
        rows = ((of_row == 0) | (of_row == k)).nonzero()[:, 0]
        explained.append(power[rows][:, rows].sum((0, 1)))
    variance = power.sum((0, 1))
    is_alive = variance > 1e-24 * size  # what rounding leaves of a constant is no variance
    shares = (torch.stack(explained) / variance.where(is_alive, 1.0)).where(is_alive, 0.0)
    share, place = shares.max(0)
    return NeuronFrequencies((place + 1).where(is_alive, 0), share, shares)
