"""Shapes in embeddings, activations and output weights: principal components, parabolas, probes,
convex curves.

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


# ------------------------------------------------------------- principal components
@dataclass(frozen=True)
class PCA:
    """Principal components of n rows, those of most variance first."""

    mean: Float[Tensor, " d"]
    directions: Float[Tensor, "component d"]  # orthonormal
    scores: Float[Tensor, "n component"]  # in the rows' unit
    shares: Float[Tensor, " component"]  # of the variance, adding up to 1

    def keep(self, components: Sequence[int]) -> Float[Tensor, "n d"]:
        """The rows rebuilt from their mean and the named components alone (0 is PC1)."""
        kept = list(components)
        return self.mean + self.scores[:, kept] @ self.directions[kept]

    def remove(self, components: Sequence[int]) -> Float[Tensor, "n d"]:
        """The rows without the named components."""
        return self.keep([i for i in range(len(self.shares)) if i not in set(components)])


def pca(rows: Float[Tensor, "n d"]) -> PCA:
    """Principal components of rows that belong to the numbers 0…n-1 in order; at most min(n - 1, d)
    of them.

    Signs: PC1's scores increase with the number (their correlation with it is positive). PC2's are
    convex in it (the quadratic term of a parabola through them is positive). Every other
    direction's largest entry is positive, and so is that of PC1 or PC2 where its own rule gives no
    sign.

    Raises:
        ValueError: fewer than two rows, or rows that are all alike.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(
            f"rows have shape {tuple(rows.shape)}: must be at least 2 rows of features"
        )
    rows = rows.double()
    mean = rows.mean(0)
    left, sizes, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    if sizes[0] <= 1e-12 * rows.norm():
        raise ValueError("all rows are alike: there are no principal components")
    count = min(len(rows) - 1, rows.shape[1])
    scores, directions = (left * sizes)[:, :count], directions[:count]
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
    elif component == 1 and len(score) > 2:
        away = (
            index - index.mean()
        ).square()  # what of the square is not linear in the index, up to a constant
        rule = correlation(away, score)
    return rule.sign() if rule.abs() > 1e-9 else direction[direction.abs().argmax()].sign()


# ------------------------------------------------------------------------ linear fits
def correlation(
    x: Float[Tensor, "*batch n"], y: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Pearson's r along the last axis; 0 where x or y is constant (a neuron that is never on)."""
    centred = [v.double() - v.double().mean(-1, keepdim=True) for v in (x, y)]
    norms = [c.norm(dim=-1) for c in centred]
    # What rounding leaves of a constant is no variation.
    live = [n > 1e-12 * v.double().norm(dim=-1) for n, v in zip(norms, (x, y), strict=True)]
    product, scale = (centred[0] * centred[1]).sum(-1), norms[0] * norms[1]
    return torch.where(live[0] & live[1], product / scale.clamp_min(1e-300), 0.0).clamp(-1, 1)


@dataclass(frozen=True)
class LinearFit:
    """Least-squares fit of each target by the features and a constant."""

    coefficients: Float[Tensor, "feature target"]
    constant: Float[Tensor, " target"]
    r2: Float[
        Tensor, " target"
    ]  # share of the target's variance explained; 0 for a constant target

    def predict(self, features: Float[Tensor, "n feature"]) -> Float[Tensor, "n target"]:
        return self.constant + features.double() @ self.coefficients


def fit_linear(
    features: Float[Tensor, "n feature"], targets: Float[Tensor, "n target"]
) -> LinearFit:
    """Ordinary least squares of several targets at once, e.g. every neuron by PC1(a), PC2(a),
    PC1(b), PC2(b).

    R² is of the fitted rows themselves: with f features that mean nothing it is about f / (n - 1),
    not 0.

    Raises:
        ValueError: not more rows than features, or another number of rows for the targets.
    """
    n, count = features.shape
    if n <= count or len(targets) != n:
        raise ValueError(
            f"{n} rows of {count} features, {len(targets)} of targets: must be as many, and > "
            f"features"
        )
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    coefficients = torch.linalg.pinv(x - x_mean) @ (y - y_mean)
    residual = y - y_mean - (x - x_mean) @ coefficients
    variance, size = (y - y_mean).square().sum(0), y.square().sum(0)
    live = variance > 1e-24 * size
    r2 = torch.where(live, 1 - residual.square().sum(0) / variance.clamp_min(1e-300), 0.0)
    return LinearFit(coefficients, y_mean - x_mean @ coefficients, r2)


@dataclass(frozen=True)
class Parabola:
    """y ≈ level + slope · k + curvature · k²."""

    level: float
    slope: float
    curvature: float
    r2: float
    line_r2: float  # what a straight line explains of y
    bend_r2: (
        float  # of what the line leaves, the share that the square explains; 0 if it leaves nothing
    )

    def at(self, k: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.level + self.slope * k.double() + self.curvature * k.double().square()


def fit_parabola(k: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Parabola:
    """Least-squares parabola through the points (k, y).

    Of n random numbers it explains about 2 / (n - 1), so compare R² with that, or with shuffled y.

    Raises:
        ValueError: fewer than four points, or fewer than three different k.
    """
    if len(k) < 4 or len(k.unique()) < 3:
        raise ValueError(
            f"{len(k)} points at {len(k.unique())} places: a parabola needs at least 4, at 3 places"
        )
    k, y = k.double(), y.double()[:, None]
    centre, scale = k.mean(), k.std()
    z = (
        k - centre
    ) / scale  # the square of a large k is nearly linear in it: centred first, digits are kept
    whole, line = fit_linear(torch.stack([z, z.square()], 1), y), fit_linear(z[:, None], y)
    slope, curvature = whole.coefficients[0, 0] / scale, whole.coefficients[1, 0] / scale**2
    left = 1 - line.r2
    return Parabola(
        level=float(whole.constant - slope * centre + curvature * centre**2),
        slope=float(slope - 2 * curvature * centre),
        curvature=float(curvature),
        r2=float(whole.r2),
        line_r2=float(line.r2),
        bend_r2=float((whole.r2 - line.r2) / left) if left > 1e-12 else 0.0,
    )


# -------------------------------------------------------------------------- probes
@dataclass(frozen=True)
class Probe:
    """Cross-validated linear readout of a target, beside its controls. Errors in the target's unit,
    squared.
    """

    r2: float  # 1 - mse / variance of the target; below 0 it is worse than knowing the mean
    mse: float
    mean_mse: float  # of predicting the mean of the rows fitted on
    shuffled_r2: Float[Tensor, " shuffle"]  # the same probe on shuffled targets: chance
    predicted: Float[Tensor, " n"]  # for each row, by the fit that had not seen it


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
    outnumber rows.

    Beside a probe of activations belongs one of what the model started from: with as many
    dimensions as numbers, an embedding of *any* shape determines the number linearly, and (W_E[a],
    W_E[b]) determines a + b.

    Args:
        folds: outer folds, 2 to n. shuffles: shuffled targets, 0 or more. seed: of folds and
            shuffles.
        groups: rows of one group are never on both sides of a fold, e.g. a + b: then the probe has
            to answer for sums that it was not fitted on; default each row is a group of its own.

    Raises:
        ValueError: a constant target, values that are not finite, or more folds than rows or
            groups.
    """
    x, y = features.detach().double().cpu().numpy(), target.detach().double().cpu().numpy()
    if x.ndim != 2 or y.shape != (len(x),) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"features {x.shape} and target {y.shape}: must be finite, (n, d) and (n,)"
        )
    if np.ptp(y) == 0:
        raise ValueError("the target is constant: there is nothing to predict")
    draw = np.random.default_rng(seed)
    targets = np.stack([y, *(draw.permutation(y) for _ in range(shuffles))], 1)
    kind = KFold if groups is None else GroupKFold
    by_group = None if groups is None else groups.cpu().numpy()
    predicted, means = np.empty_like(targets), np.empty_like(targets)
    for fit, rest in kind(folds, shuffle=True, random_state=seed).split(x, y, by_group):
        scale = np.sqrt(x[fit].var(0).mean()) or 1.0
        ridge = RidgeCV(alphas=np.logspace(-3, 5, 9), alpha_per_target=True).fit(
            x[fit] / scale, targets[fit]
        )
        predicted[rest] = ridge.predict(x[rest] / scale).reshape(len(rest), -1)
        means[rest] = targets[fit].mean(0)
    mse = np.square(predicted - targets).mean(0)
    r2 = 1 - mse / targets.var(0)
    return Probe(
        r2=float(r2[0]),
        mse=float(mse[0]),
        mean_mse=float(np.square(means - targets).mean(0)[0]),
        shuffled_r2=torch.from_numpy(r2[1:]),
        predicted=torch.from_numpy(predicted[:, 0]),
    )


# ------------------------------------------------------------------- convex curves
def winning_angles(points: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """For each point of a plane, the angle (radians) of the directions in which it lies farther out
    than all others.

    A linear readout direction picks, as its arg-max, one point: so a point with angle 0 is never
    picked, and all points are above 0 exactly where they are the corners of a convex polygon. The
    angles add up to 2π (n ≥ 3 points, not on one line); the smaller one is, the more exactly the
    readout must aim. Points that coincide win nothing.
    """
    points = points.double()
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise ValueError(
            f"points have shape {tuple(points.shape)}: must be at least two, in a plane"
        )
    apart = points - points[:, None]  # [i, j]: from i to j
    n = len(points)
    towards = torch.atan2(apart[..., 1], apart[..., 0])[~torch.eye(n, dtype=torch.bool)].reshape(
        n, n - 1
    )
    towards = towards.sort(1).values
    gaps = torch.cat([towards[:, 1:], towards[:, :1] + 2 * math.pi], 1) - towards
    # Seen from a corner all others lie within an angle below π; it wins in the directions more than
    # π/2 off them all.
    won = (gaps.max(1).values - math.pi).clamp_min(0)
    coincide = (apart.norm(dim=-1) == 0).sum(1) > 1
    return won.where(~coincide & (won > 1e-9), won.new_zeros(()))


@dataclass(frozen=True)
class ReadoutFit:
    """How far logits are those of outputs on a parabola, logit_c = gain · (2 s c - c²) + a constant
    of each row.

    Equivalently -gain · (s - c)²: the output nearest to s wins. Logits count without their mean
    over the outputs.
    """

    gain: float  # one for all rows
    r2: float  # explained with this one gain, and s the true sum
    free_r2: float  # explained where each row has a parabola in c of its own
    row_r2: Float[Tensor, " n"]  # the same, row by row
    sums: Float[
        Tensor, " n"
    ]  # s of each row's own parabola, its crest; NaN where it has none (bends upwards)
    answers: Int[Tensor, " n"]  # the output that each row's own parabola picks


def fit_readout(logits: Float[Tensor, "n c"], sums: Float[Tensor, " n"]) -> ReadoutFit:
    """Fit the logits of n questions with the given sums by parabolas over the outputs 0…c-1.

    Leave out the columns of outputs that are never right (of 2p outputs, the last) before fitting.

    Raises:
        ValueError: fewer than four outputs, another number of sums, or logits that are the same for
            all outputs.
    """
    if logits.ndim != 2 or logits.shape[1] < 4 or sums.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits.shape)}, sums {tuple(sums.shape)}: must be (n, 4 or more) and "
            f"(n,)"
        )
    n_outputs = logits.shape[1]
    c = torch.arange(n_outputs, dtype=torch.float64, device=logits.device)
    seen = logits.double() - logits.double().mean(1, keepdim=True)
    size = seen.square().sum(1)
    if bool((size <= 1e-24 * logits.double().square().sum(1)).any()):
        raise ValueError("logits are the same for all outputs: there is no curve to fit")
    ideal = 2 * sums.double()[:, None] * c - c.square()
    ideal = ideal - ideal.mean(1, keepdim=True)
    gain = (seen * ideal).sum() / ideal.square().sum()
    own = fit_linear(torch.stack([c, c.square()], 1), seen.T)
    slope, bend = own.coefficients
    return ReadoutFit(
        gain=float(gain),
        r2=float(1 - (seen - gain * ideal).square().sum() / size.sum()),
        free_r2=float((own.r2 * size).sum() / size.sum()),
        row_r2=own.r2,
        sums=torch.where(bend < 0, -slope / (2 * bend), torch.nan),
        answers=own.predict(torch.stack([c, c.square()], 1)).argmax(0),
    )
