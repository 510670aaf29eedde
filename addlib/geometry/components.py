"""Shapes in embeddings, activations and output weights: components, parabolas, probes, curves.

Signs and order are fixed by rule, so that figures of different seeds can be laid side by side.
Everything is computed in float64, on plain tensors: rows are samples (numbers, pairs), columns are
features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, KFold
from torch import Tensor


# -------------------------------------------------------------- principal components
@dataclass(frozen=True)
class PCA:
    """Principal components of n rows, those of most variance first."""

    mean: Float[Tensor, " d"]
    directions: Float[Tensor, "component d"]  # orthonormal
    scores: Float[Tensor, "n component"]  # in the rows' unit
    shares: Float[Tensor, " component"]  # of the variance, adding up to 1

    def keep(self, components: Sequence[int]) -> Float[Tensor, "n d"]:
        """The rows rebuilt from their mean and the named components alone (0 is PC1)."""
        components = list(components)
        return self.mean + self.scores[:, components] @ self.directions[components]

    def remove(self, components: Sequence[int]) -> Float[Tensor, "n d"]:
        """The rows without the named components."""
        return self.keep([i for i in range(len(self.shares)) if i not in set(components)])


def pca(rows: Float[Tensor, "n d"]) -> PCA:
    """Principal components of rows that belong to the numbers 0…n-1; at most min(n - 1, d).

    Signs: PC1's scores increase with the number (their correlation with it is positive). PC2's are
    convex in it (the quadratic term of a parabola through them is positive). Every other
    direction's largest entry is positive, and so is that of PC1 or PC2 where its own rule gives no
    sign.
    """
    rows = rows.double()
    mean = rows.mean(0)
    u, sizes, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    count = min(len(rows) - 1, rows.shape[1])
    directions = directions[:count]
    scores = (u * sizes)[:, :count]
    signs = torch.stack([_sign(i, scores[:, i], directions[i]) for i in range(count)])
    shares = sizes[:count].square() / sizes.square().sum()
    return PCA(mean, directions * signs[:, None], scores * signs, shares)


def _sign(
    component: int, score: Float[Tensor, " n"], direction: Float[Tensor, " d"]
) -> Float[Tensor, ""]:
    index = torch.arange(len(score), dtype=torch.float64, device=score.device)
    rule = score.new_zeros(())
    if component == 0:
        rule = correlation(index, score)
    elif component == 1:
        # What of the square is not linear in the index, up to a constant.
        rule = correlation((index - index.mean()).square(), score)
    return rule.sign() if rule.abs() > 1e-9 else direction[direction.abs().argmax()].sign()


# ----------------------------------------------------------------------- linear fits
def closing(rows: Float[Tensor, "n d"]) -> float:
    """Distance from the last row to the first, over the mean distance of neighbours.

    1 on a circle, large on an open curve; rows without any order close, too.
    """
    return float((rows[-1] - rows[0]).norm() / (rows[1:] - rows[:-1]).norm(dim=1).mean())


def correlation(
    x: Float[Tensor, "*batch n"], y: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Pearson's r along the last axis; 0 where x or y is constant (a neuron that is never on)."""
    return (_standardised(x) * _standardised(y)).sum(-1).clamp(-1, 1)


def _standardised(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Less the mean, of norm 1 along the last axis; 0 for a constant."""
    x = x.double()
    centred = x - x.mean(-1, keepdim=True)
    norm = centred.norm(dim=-1, keepdim=True)
    is_live = norm > 1e-12 * x.norm(dim=-1, keepdim=True)  # what rounding leaves is no variation
    return (centred / norm).where(is_live, 0.0)


@dataclass(frozen=True)
class LinearFit:
    """Least-squares fit of each target by the features and a constant."""

    coefficients: Float[Tensor, "feature target"]
    constant: Float[Tensor, " target"]
    r2: Float[Tensor, " target"]  # share of the variance explained; 0 for a constant target

    def predict(self, features: Float[Tensor, "n feature"]) -> Float[Tensor, "n target"]:
        return self.constant + features.double() @ self.coefficients


def fit_linear(
    features: Float[Tensor, "n feature"], targets: Float[Tensor, "n target"]
) -> LinearFit:
    """Ordinary least squares of several targets at once, e.g. every neuron by PC1(a), PC2(a).

    R² is of the fitted rows themselves: with f features that mean nothing it is about f / (n - 1),
    not 0.

    Raises:
        ValueError: not more rows than features.
    """
    n, count = features.shape
    if n <= count:
        raise ValueError(f"{n} rows of {count} features: must be more rows than features")
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    coefficients = torch.linalg.pinv(x - x_mean) @ (y - y_mean)
    residual = y - y_mean - (x - x_mean) @ coefficients
    variance = (y - y_mean).square().sum(0)
    is_live = variance > 1e-24 * y.square().sum(0)
    r2 = (1 - residual.square().sum(0) / variance).where(is_live, 0.0)
    return LinearFit(coefficients, y_mean - x_mean @ coefficients, r2)


@dataclass(frozen=True)
class Parabola:
    """How far points follow y ≈ level + slope · k + curvature · k²."""

    curvature: float
    r2: float


def fit_parabola(k: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Parabola:
    """Least-squares parabola through the points (k, y).

    Of n random numbers it explains about 2 / (n - 1), so compare R² with that, or with shuffled y.
    """
    # The square of a large k is nearly linear in it: centred first, digits are kept.
    k = k.double()
    scale = k.std()
    z = (k - k.mean()) / scale
    fit = fit_linear(torch.stack([z, z.square()], 1), y[:, None])
    return Parabola(float(fit.coefficients[1, 0] / scale**2), float(fit.r2))


# ---------------------------------------------------------------------------- probes
@dataclass(frozen=True)
class Probe:
    """Cross-validated linear readout of a target, beside its controls; squared errors."""

    r2: float  # 1 - mse / variance of the target; below 0 it is worse than knowing the mean
    mse: float
    mean_mse: float  # of predicting the mean of the rows fitted on
    shuffled_r2: Float[Tensor, " shuffle"]  # the same probe on shuffled targets: chance
    predicted: Float[Tensor, " n"]  # of each row, by the fit that had not seen it


def probe(
    features: Float[Tensor, "n d"],
    target: Float[Tensor, " n"],
    folds: int = 5,
    shuffles: int = 20,
    seed: int = 0,
    groups: Int[Tensor, " n"] | None = None,
) -> Probe:
    """Ridge regression of ``target`` on ``features``, judged on folds that it has not seen.

    Features are centred and share one scale. With a scale of its own, a neuron that is all but
    silent in the rows fitted on, and wakes in those left out, would be blown up there.

    Nested: inside each fold's training rows the penalty is chosen anew from 1e-3 to 1e5 by leaving
    out one row at a time, separately for the target and for each shuffle of it. Features may
    outnumber rows. All of it is computed on the CPU.

    Beside a probe of activations belongs one of what the model started from: with as many
    dimensions as numbers, an embedding of *any* shape determines the number linearly, and (W_E[a],
    W_E[b]) determines a + b.

    Args:
        folds: outer folds, 2 to n. shuffles: shuffled targets, 0 or more. seed: of folds and
            shuffles.
        groups: rows of one group are never on both sides of a fold, e.g. a + b: then the probe has
            to answer for sums that it was not fitted on; default each row is a group of its own.
    """
    x = features.detach().double().cpu().numpy()
    y = target.detach().double().cpu().numpy()
    draw = np.random.default_rng(seed)
    targets = np.stack([y, *(draw.permutation(y) for _ in range(shuffles))], 1)
    predicted, means = np.empty_like(targets), np.empty_like(targets)
    kind = KFold if groups is None else GroupKFold
    by_group = None if groups is None else groups.cpu().numpy()
    for fit, test in kind(folds, shuffle=True, random_state=seed).split(x, y, by_group):
        scale = np.sqrt(x[fit].var(0).mean()) or 1.0
        ridge = RidgeCV(alphas=np.logspace(-3, 5, 9), alpha_per_target=True)
        ridge.fit(x[fit] / scale, targets[fit])
        predicted[test] = ridge.predict(x[test] / scale).reshape(len(test), -1)
        means[test] = targets[fit].mean(0)
    mse = np.square(predicted - targets).mean(0)
    r2 = 1 - mse / targets.var(0)
    return Probe(
        r2=float(r2[0]),
        mse=float(mse[0]),
        mean_mse=float(np.square(means - targets).mean(0)[0]),
        shuffled_r2=torch.from_numpy(r2[1:]),
        predicted=torch.from_numpy(predicted[:, 0]),
    )


# --------------------------------------------------------------------- convex curves
def winning_angles(points: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """For each point, the angle (radians) of the directions in which it lies farthest out.

    A linear readout direction picks, as its arg-max, one point: so a point with angle 0 is never
    picked, and all points are above 0 exactly where they are the corners of a convex polygon. The
    angles add up to 2π (n ≥ 3 points, not on one line); the smaller one is, the more exactly the
    readout must aim. Points that coincide win nothing.
    """
    points = points.double()
    n = len(points)
    apart = points - points[:, None]  # [i, j]: from i to j
    towards = torch.atan2(apart[..., 1], apart[..., 0])
    towards = towards[~torch.eye(n, dtype=torch.bool)].reshape(n, n - 1).sort(1).values
    gaps = torch.cat([towards[:, 1:], towards[:, :1] + 2 * math.pi], 1) - towards
    # Seen from a corner all others lie within an angle below π; it wins in the directions more than
    # π/2 off them all.
    won = (gaps.max(1).values - math.pi).clamp_min(0)
    coincide = (apart.norm(dim=-1) == 0).sum(1) > 1
    return won.where(~coincide & (won > 1e-9), 0.0)


def readout_r2(logits: Float[Tensor, "n c"], sums: Float[Tensor, " n"]) -> float:
    """How far logits are those of outputs on a parabola: gain · (2 s c - c²) + one of each row.

    The share of the logits' variance over the outputs 0…c-1 that this explains, with one gain for
    all rows and s the true sum. Equivalently -gain · (s - c)²: the output nearest to s wins. Leave
    out the columns of outputs that are never right (of 2p outputs, the last).
    """
    c = torch.arange(logits.shape[1], dtype=torch.float64, device=logits.device)
    seen = logits.double() - logits.double().mean(1, keepdim=True)
    ideal = 2 * sums.double()[:, None] * c - c.square()
    ideal = ideal - ideal.mean(1, keepdim=True)
    gain = (seen * ideal).sum() / ideal.square().sum()
    return float(1 - (seen - gain * ideal).square().sum() / seen.square().sum())
