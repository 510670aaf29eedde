"""Functions on the numbers 0…p-1 as sums of waves: the basis, norms by frequency, key frequencies,
neuron clusters.

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


# --------------------------------------------------------------------------- basis
def fourier_basis(p: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "p p"]:
    """Orthonormal rows: constant, cos 1, sin 1, cos 2, sin 2, …, and for even p cos p/2 last.

    Row i at column a is the wave of frequency :func:`row_frequencies` [i] at the number a. The
    rows' inverse is their
    transpose: ``basis.T @ (basis @ W)`` is W.

    Raises:
        ValueError: p below 2.
    """
    k, a = row_frequencies(p), torch.arange(p)
    # k · a mod p first: angles stay small, so large p loses no digits.
    angle = 2 * math.pi * (k[:, None] * a % p).double() / p
    is_sine = (torch.arange(p) > 0) & (torch.arange(p) % 2 == 0)
    rows = torch.where(is_sine[:, None], angle.sin(), angle.cos())
    return (rows / rows.norm(dim=1, keepdim=True)).to(dtype)


def row_frequencies(p: int) -> Int[Tensor, " p"]:
    """Frequency k of each row of the basis: 0, 1, 1, 2, 2, … up to p // 2.

    Raises:
        ValueError: p below 2.
    """
    if p < 2:
        raise ValueError(f"p = {p}: must be at least 2")
    return (torch.arange(p) + 1) // 2


def basis_names(p: int) -> list[str]:
    """Names of the rows: ``["constant", "cos 1", "sin 1", …]``."""
    waves = ("sin", "cos")
    return [
        f"{waves[row % 2]} {k}" if k else "constant"
        for row, k in enumerate(row_frequencies(p).tolist())
    ]


def require_frequencies(frequencies: Sequence[int], p: int) -> list[int]:
    """The frequencies as a list.

    Raises:
        ValueError: one that is not from 1 to p // 2, or occurs twice.
    """
    listed = [int(k) for k in frequencies]
    if len(set(listed)) < len(listed) or not all(1 <= k <= p // 2 for k in listed):
        raise ValueError(f"frequencies {listed} at p = {p}: must be distinct, from 1 to {p // 2}")
    return listed


# ----------------------------------------------------------------- functions of one number
def fourier_norms(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch p"]:
    """Norm of W's component along each row of the basis, over its d columns, in W's unit.

    W is a function of the number in its next to last axis: the embedding's number rows, or (W_out ·
    W_U) transposed.
    """
    return _transformed(W).norm(dim=-1)


def frequency_shares(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch frequencies"]:
    """Share of W's squared norm in each frequency 1…p // 2, the constant left out; the shares add
    up to 1.

    Raises:
        ValueError: where nothing is left beside the constant.
    """
    power = fourier_norms(W).square()[..., 1:]
    total = power.sum(-1, keepdim=True)
    # What rounding leaves of a constant is no function of the number.
    if bool((total <= 1e-24 * W.double().square().sum((-2, -1)).unsqueeze(-1)).any()):
        raise ValueError("W is the same for every number: it has no shares by frequency")
    place = row_frequencies(W.shape[-2])[1:].to(power.device) - 1
    shares = power.new_zeros(*power.shape[:-1], W.shape[-2] // 2)
    return shares.index_add(-1, place, power / total)


def null_share(
    W: Float[Tensor, "p d"], quantile: float = 0.99, draws: int = 200, seed: int = 0
) -> float:
    """The largest share of any one frequency to expect where the order of the numbers means
    nothing.

    Control: W's rows shuffled, ``draws`` times; the quantile over the draws of the largest of
    :func:`frequency_shares`. Shuffling keeps W's singular values, so a matrix of low rank is
    compared with its like.

    Raises:
        ValueError: no draws, a quantile outside (0, 1), or a W that is the same for every number.
    """
    if draws < 1 or not 0 < quantile < 1:
        raise ValueError(
            f"draws = {draws}, quantile = {quantile}: must be at least 1, and in (0, 1)"
        )
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(W), generator=generator) for _ in range(draws)])
    left, sizes, _ = torch.linalg.svd(
        W.double(), full_matrices=False
    )  # a rotation of the columns changes no norm
    return float(frequency_shares((left * sizes)[orders]).max(-1).values.quantile(quantile))


def key_frequencies(
    W: Float[Tensor, "p d"], multiple: float = 1.0, least: float | None = None, **null: float
) -> list[int]:
    """Frequencies whose share of W's squared norm is above ``multiple`` times :func:`null_share`;
    strongest first.

    Of random matrices at most about 1 in 100 has such a frequency (at ``multiple`` 1, the default
    ``quantile``). The list is empty where no frequency stands out.

    Args:
        least: with a number, e.g. 0.01, a weaker key frequency is not hidden by stronger ones: what
            was found is taken out, and the search goes on in the rest of W, down to frequencies
            with this share of the *whole* W.
        null: ``quantile``, ``draws`` and ``seed`` of :func:`null_share`.
    """
    shares = frequency_shares(W)
    threshold = multiple * null_share(W, **null)
    found = [
        int(place) + 1 for place in shares.argsort(descending=True) if shares[place] > threshold
    ]
    if least is None or not found or len(found) == len(shares):
        return found
    basis = fourier_basis(len(W)).to(W.device)[
        torch.isin(row_frequencies(len(W)), torch.tensor([0, *found]))
    ]
    rest = W.double() - basis.T @ (basis @ W.double())
    if bool(shares.sum() - shares[torch.tensor(found) - 1].sum() < least):
        return found
    more = key_frequencies(rest, multiple, least, **null)
    kept = [k for k in more if shares[k - 1] >= least and k not in found]
    return found + kept


def component_cosines(
    W: Float[Tensor, "p d"], frequencies: Sequence[int]
) -> Float[Tensor, "row row"]:
    """Cosine similarity of W's components cos k, sin k of each frequency, as directions in its d
    columns.

    Rows and columns in the order cos, sin of the first frequency, then of the second. Off the
    diagonal, 0 everywhere means that the waves lie in planes of their own and are circles, not
    ellipses' skew axes. A component of norm 0 has similarity 0 to all, itself included.

    Raises:
        ValueError: frequencies that are not distinct, from 1 to p // 2.
    """
    row_of = row_frequencies(W.shape[-2])
    rows = [
        int(row)
        for k in require_frequencies(frequencies, W.shape[-2])
        for row in (row_of == k).nonzero()
    ]
    directions = torch.nn.functional.normalize(_transformed(W)[rows], dim=-1)
    return directions @ directions.T


def frequency_plane(W: Float[Tensor, "p d"], frequency: int) -> Float[Tensor, "p 2"]:
    """The numbers as seen in the plane of W's components cos k and sin k, in W's unit; the first
    axis is cos k's.

    On a circle that turns by ω_k from each number to the next, number a is at the angle ω_k a. A
    random W of many columns makes a blurred circle in the plane of *every* frequency, since the
    plane was fitted to its rows: compare.

    Raises:
        ValueError: a frequency not from 1 to p // 2, or p/2, which has no sine and so no plane; no
            such components.
    """
    p = W.shape[-2]
    (k,) = require_frequencies([frequency], p)
    if 2 * k == p:
        raise ValueError(f"frequency {k} at p = {p}: has a cosine only, so there is no plane")
    along = _transformed(W)[row_frequencies(p) == k]  # cos k, sin k as directions in the d columns
    axes, sizes = torch.linalg.qr(along.T)
    diagonal = sizes.diagonal()
    if len(diagonal) < 2 or bool((diagonal.abs() <= 1e-12 * W.double().norm()).any()):
        raise ValueError(f"W's components cos {k} and sin {k} span no plane")
    return W.double() @ (axes * diagonal.sign())


def turning(points: Float[Tensor, "p 2"], frequency: int) -> float:
    """How steadily points turn by ω_k from number to number: 1 for a circle, about 1/√p for random
    points.

    The length of the mean of the unit vectors at (angle of point a) - ω_k a.
    """
    p = len(points)
    angle = (
        torch.atan2(points[:, 1], points[:, 0])
        - 2 * math.pi * frequency * torch.arange(p).to(points) / p
    )
    return float(torch.polar(torch.ones_like(angle), angle).mean().abs())


def gini(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Gini coefficient of non-negative numbers: 0 where all are alike, 1 - 1/n where one has
    everything.

    Its rise says that norms by frequency become sparse. All zero counts as all alike.

    Raises:
        ValueError: negative numbers, or none.
    """
    if x.shape[-1] == 0 or bool((x < 0).any()):
        raise ValueError("the Gini coefficient is of one or more numbers that are not negative")
    n, ascending = x.shape[-1], x.double().sort(-1).values
    rank_weight = 2 * torch.arange(1, n + 1, device=x.device) - n - 1
    total = ascending.sum(-1)
    return (ascending * rank_weight).sum(-1) / (n * total.where(total > 0, torch.ones_like(total)))


# ---------------------------------------------------------------- functions of two numbers
def fourier_2d(f: Float[Tensor, "p p *rest"]) -> Float[Tensor, "p p *rest"]:
    """Coefficients of f(a, b) on the products of two rows of the basis, the first over a, the
    second over b.

    E.g. cos(ω_k (a + b)) has p/2 at (cos k, cos k) and -p/2 at (sin k, sin k), all else 0.
    """
    if f.ndim < 2 or f.shape[0] != f.shape[1]:
        raise ValueError(
            f"f has shape {tuple(f.shape)}: must be a function of the pair (a, b), (p, p, ...)"
        )
    p = f.shape[0]
    basis = fourier_basis(p).to(f.device)
    over_a = basis @ f.double().reshape(p, -1)  # (row of a, b · rest)
    return (basis @ over_a.reshape(p, p, -1)).reshape(f.shape)


@dataclass(frozen=True)
class NeuronFrequencies:
    """For each neuron, the frequency that explains most of its variance over the pairs, and that
    share of it.
    """

    frequency: Int[Tensor, " neuron"]  # 1…p // 2, or 0 for a neuron that is constant
    share: Float[Tensor, " neuron"]
    shares: Float[Tensor, "frequencies neuron"]  # of every frequency

    def clusters(self, least: float) -> dict[int, Int[Tensor, " some"]]:
        """Neurons by frequency, where it explains more than ``least`` ≥ 0 of the variance; the
        largest first.
        """
        kept = {
            int(k): ((self.frequency == k) & (self.share > least)).nonzero()[:, 0]
            for k in self.frequency.unique()
        }
        return dict(
            sorted(((k, n) for k, n in kept.items() if len(n)), key=lambda item: -len(item[1]))
        )


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
    shares = power.new_zeros(len(power) // 2, power.shape[2])
    for k in range(1, len(power) // 2 + 1):
        rows = torch.cat([of_row.new_zeros(1), (of_row == k).nonzero()[:, 0]])
        shares[k - 1] = power[rows][:, rows].sum((0, 1))
    variance = power.sum((0, 1))
    alive = variance > 1e-24 * size  # what rounding leaves of a constant is no variance
    shares = torch.where(alive, shares / variance.where(alive, torch.ones_like(variance)), 0.0)
    share, place = shares.max(0)
    return NeuronFrequencies(torch.where(alive, place + 1, 0), share, shares)


def _transformed(W: Float[Tensor, "*batch p d"]) -> Float[Tensor, "*batch p d"]:
    return fourier_basis(W.shape[-2]).to(W.device) @ W.double()
