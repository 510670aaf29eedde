"""How a number might be written into a vector: codes to fit, and what they explain of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

Rows = Float[Tensor, "number d"]


def helix(numbers: Real[Tensor, " number"]) -> Float[Tensor, "number 8"]:
    """A line, and circles of period 2, 5, 10 and 100 (Kantamneni & Tegmark 2025).

    ``helix(7)`` → 0.07, cos π7, then cosine and sine of 2π7/5, 2π7/10 and 2π7/100; the circle of
    period 2 has a cosine only.
    """
    numbers = numbers.double()
    columns = [numbers / 100, torch.cos(math.pi * numbers)]
    for period in (5, 10, 100):
        angle = 2 * math.pi * numbers / period
        columns += [angle.cos(), angle.sin()]
    return torch.stack(columns, 1)


def polynomial(numbers: Real[Tensor, " number"], degree: int = 8) -> Float[Tensor, "number degree"]:
    """Legendre's polynomials of degree 1 to ``degree``, over the range of the numbers given."""
    numbers = numbers.double()
    middle = (numbers.max() + numbers.min()) / 2
    x = (numbers - middle) / (numbers.max() - middle)
    degrees = torch.arange(1, degree + 1, device=x.device)
    return torch.special.legendre_polynomial_p(x[:, None], degrees)


def reconstructions(
    rows: Rows,
    codes: Mapping[str, Float[Tensor, "number size"]],
    fit: Tensor | slice = slice(None),
    to: Tensor | slice = slice(None),
    directions: int = 8,
) -> dict[str, Rows]:
    """Rows as each code says they are: their mean plus a linear map of the number's code.

    Args:
        rows: a vector for each number.
        codes: label → the code of each number.
        fit, to: which rows the maps are fitted to, and which rows are reconstructed.
        directions: so many principal components are taken for ``"PCA"``.

    Returns:
        label → reconstructed rows; beside the codes ``"mean"``, the mean of the rows fitted to, and
        ``"PCA"``, the rows themselves along the first principal components of the rows fitted to.
    """
    mean = rows[fit].mean(0)
    axes = torch.linalg.svd(rows[fit] - mean, full_matrices=False).Vh[:directions]
    found = {
        "mean": mean.expand(len(rows[to]), -1),
        "PCA": mean + (rows[to] - mean) @ axes.T @ axes,
    }
    for label, code in codes.items():
        centre = code[fit].mean(0)
        weights = torch.linalg.lstsq(code[fit] - centre, rows[fit] - mean).solution
        found[label] = mean + (code[to] - centre) @ weights
    return found


def held_out_misses(
    rows: Rows,
    codes: Mapping[str, Float[Tensor, "number size"]],
    folds: Int[Tensor, " number"],
) -> dict[str, Float[Tensor, " number"]]:
    """How far each number's row is from what a code fitted to others makes of it, squared.

    Args:
        rows, codes: as of :func:`reconstructions`, which says what the labels are.
        folds: of each number; one fold after the other is left out.
    """
    missed: dict[str, Tensor] = {}
    for fold in folds.unique().tolist():
        out = folds == fold
        for label, values in reconstructions(rows, codes, ~out, out).items():
            of_all = missed.setdefault(label, rows.new_zeros(len(rows)))
            of_all[out] = (rows[out] - values).square().sum(1)
    return missed


def explained_share(
    missed: Mapping[str, Float[Tensor, " number"]], numbers: Tensor | slice = slice(None)
) -> dict[str, float]:
    """The share of the rows' variance that each code explains of numbers left out of its fit.

    0 is what the mean of the others explains; a code may do worse than that.

    Args:
        missed: as of :func:`held_out_misses`. numbers: these alone, which may come several times.
    """
    left = {label: of[numbers].sum().item() for label, of in missed.items()}
    of_mean = left.pop("mean")
    return {label: 1 - of / of_mean for label, of in left.items()}


def explained_at_best(
    missed: Sequence[Mapping[str, Float[Tensor, " number"]]],
    label: str,
    numbers: Tensor | slice = slice(None),
) -> dict[str, float]:
    """:func:`explained_share` in the layer where one code explains most of these numbers."""
    return max((explained_share(of, numbers) for of in missed), key=lambda share: share[label])


def held_out_r2(
    rows: Rows,
    codes: Mapping[str, Float[Tensor, "number size"]],
    folds: Int[Tensor, " number"],
) -> dict[str, float]:
    """:func:`explained_share` of all numbers, each left out once."""
    return explained_share(held_out_misses(rows, codes, folds))


def linear_r2(
    rows: Float[Tensor, "layer number d"],
    code: Float[Tensor, "number size"],
    folds: Int[Tensor, " number"],
) -> Float[Tensor, " layer"]:
    """As :func:`held_out_r2`, of one code and in all layers at once."""
    missed = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    total = torch.zeros_like(missed)
    for fold in folds.unique().tolist():
        out = folds == fold
        centre = code[~out].mean(0)
        weights = (code[out] - centre) @ torch.linalg.pinv(code[~out] - centre)
        mean = rows[:, ~out].mean(1, keepdim=True)
        predicted = mean + weights.to(rows) @ (rows[:, ~out] - mean)
        missed += (rows[:, out] - predicted).square().sum((1, 2))
        total += (rows[:, out] - mean).square().sum((1, 2))
    return 1 - missed / total


def permuted_digits(
    numbers: Int[Tensor, " number"], generator: torch.Generator
) -> Int[Tensor, " number"]:
    """Two-digit numbers with the names of their digits exchanged: tens 1 to 9, and units 0 to 9."""
    tens = torch.cat(
        [torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(9, generator=generator)]
    )
    units = torch.randperm(10, generator=generator)
    permuted = 10 * tens[:, None] + units
    return permuted.to(numbers.device)[numbers // 10, numbers % 10]
