"""Where a loss curve rests, where it falls and where it spikes: one explicit rule for each.

A loss recorded at each step is the mean of one batch: a smooth curve plus noise. All rules look at
a running mean, and take the noise from the differences of successive steps. Steps without a value
(NaN) do not count, so a caller can leave out batches of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

ERRORS = 3.0
"""Half-width of a plateau's band in standard errors of the running mean, at least."""

BLOCK = 10
"""Steps of a block whose mean counts as one draw in the interval of a plateau's level."""


@dataclass(frozen=True)
class Plateau:
    """A stretch of steps (the first is 0) on which a curve rests, its mean loss and 95 % interval.

    The interval, in nats, is that of the mean of means over blocks of steps, so a slope within the
    stretch widens it.
    """

    first: int
    last: int
    level: float
    ci: tuple[float, float]

    @property
    def length(self) -> int:
        """Number of steps."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Fall:
    """The step at which a curve leaves one level for another, and the middle half of its way."""

    step: int
    first: int
    last: int


# ----------------------------------------------------------------------------- rules
def smooth(values: Float[np.ndarray, " steps"], reach: int = 50) -> Float[np.ndarray, " steps"]:
    """Mean over the steps within ``reach`` on either side, without NaN; NaN where all are."""
    series = pd.Series(np.asarray(values, dtype=float))
    return series.rolling(2 * reach + 1, center=True, min_periods=1).mean().to_numpy()


def stays_below(curve: Float[np.ndarray, " steps"], level: float) -> float:
    """First step (0 is the first) from which a curve stays at or below a level; NaN if never."""
    above = np.flatnonzero(~(np.asarray(curve) <= level))
    if len(above) == 0:
        return 0.0
    return np.nan if above[-1] == len(curve) - 1 else float(above[-1] + 1)


def plateaus(
    loss: Float[np.ndarray, " steps"],
    *,
    reach: int = 10,
    band: float = 0.05,
    least: int = 40,
    ratio: float = 2.0,
    zero: float = 0.02,
) -> list[Plateau]:
    """The stretches on which a curve rests, in time order; [] where it never does.

    The rule. Around a level L lies a band, L ± w, with w the largest of ``band`` · L, ``zero`` and
    three standard errors of the running mean. The curve rests at L if its running mean stays in the
    band for T ≥ ``least`` steps (out of it never longer than half of ``reach``), and if it crosses
    the bands of the same width just above, on its way in, and just below, on its way out, at least
    ``ratio`` times faster. At the start of a run there is no way in and at the end no way out: then
    only the other condition counts. Of levels whose stretches overlap, the one with the longest
    stretch is kept.

    So a steady exponential decay has no plateau, at any speed: it spends as long in one band as in
    the next. Noise around a constant level is one plateau. In a fall, noise may feign a short one,
    of a wide interval.

    Args:
        loss: nats by step. reach: of the running mean, steps.
        band, zero: half-width of the bands, relative and in nats. least: steps. ratio: above 1.

    Raises:
        ValueError: a loss below 0, or settings out of range.
    """
    if not (band > 0 and zero > 0 and least >= 2 and ratio > 1):
        raise ValueError(
            f"band = {band}, zero = {zero}, least = {least}, ratio = {ratio}: must be > 0, > 0, ≥ "
            f"2, > 1"
        )
    loss = np.asarray(loss, dtype=float)
    if (loss < 0).any():
        raise ValueError(f"loss holds {np.nanmin(loss):g}: must be 0 or more nats")
    mean = smooth(loss, reach)
    at = np.flatnonzero(~np.isnan(mean))
    if len(at) < least:
        return []
    mean = mean[at]
    error = _standard_error(loss, reach)[at]
    rests: list[tuple[int, int]] = []
    for level in np.linspace(np.sqrt(mean.min()), np.sqrt(mean.max()), 400) ** 2:
        inside = np.abs(mean - level) <= np.maximum(max(band * level, zero), ERRORS * error)
        first, last = _longest_run(inside, reach // 2)
        length = last - first + 1
        if length < least:
            continue
        width = max(band * level, zero, ERRORS * float(error[first : last + 1].mean()))
        # Indices outside the bands just above and just below.
        before = np.flatnonzero(mean[:first] > level + 3 * width)
        after = np.flatnonzero(mean[last + 1 :] < level - 3 * width)
        slow_way_in = len(before) and length < ratio * (first - 1 - before[-1])
        slow_way_out = len(after) and length < ratio * after[0]
        if not (slow_way_in or slow_way_out):
            rests.append((first, last))
    apart: list[tuple[int, int]] = []
    for first, last in sorted(rests, key=lambda ends: ends[0] - ends[1]):
        if all(last < start or first > end for start, end in apart):
            apart.append((first, last))
    return [_measured(loss, int(at[first]), int(at[last])) for first, last in sorted(apart)]


def fall(
    loss: Float[np.ndarray, " steps"],
    above: float,
    below: float,
    *,
    reach: int = 10,
    log: bool = False,
) -> Fall | None:
    """When a curve leaves the level ``above`` for the level ``below``; None if it never does.

    The rule: the first step from which the running mean stays under halfway between the levels,
    with a step over halfway before it. ``first`` and ``last`` are the same for a quarter and three
    quarters of the way down; ``last`` is at most the final step where the curve gets halfway but
    not that far.

    Args:
        above, below: levels, nats. log: halfway in ln loss (the geometric mean) instead of in loss.

    Raises:
        ValueError: levels in the wrong order, or not positive with ``log``.
    """
    if not above > below or (log and below <= 0):
        raise ValueError(
            f"above = {above}, below = {below}: must fall{' to a positive level' if log else ''}"
        )
    mean = smooth(loss, reach)
    ways = np.array([0.25, 0.5, 0.75])
    levels = above * (below / above) ** ways if log else above + (below - above) * ways
    first, step, last = (stays_below(mean, level) for level in levels)
    if not step > 0:
        return None
    return Fall(int(step), int(first), len(mean) - 1 if np.isnan(last) else int(last))


def jumps_of(values: Float[np.ndarray, " steps"], window: int = 51) -> Float[np.ndarray, " steps"]:
    """How far each step stands out: ln of a curve over its running median; ln 2 is twice the usual.

    A *spike* is a step at ln 2 or more. The running median follows falls and rises that last longer
    than half of the window; at either end of the run the nearest value is repeated.

    Args:
        values: a positive quantity by step, a loss or a gradient norm. window: steps, an odd
            number.

    Raises:
        ValueError: values that are not positive, or a window that has no middle.
    """
    from scipy.ndimage import median_filter

    values = np.asarray(values, dtype=float)
    if not (values > 0).all():
        raise ValueError(f"values reach down to {np.nanmin(values):g}: must all be above 0")
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window = {window}: must be an odd number of at least 3 steps")
    logs = np.log(values)
    return logs - median_filter(logs, window, mode="nearest")


# ----------------------------------------------------------------------------- parts
def _standard_error(loss: Float[np.ndarray, " steps"], reach: int) -> Float[np.ndarray, " steps"]:
    """Standard error of the running mean: successive differences have twice its variance."""
    variance = smooth(np.append(np.diff(loss), np.nan) ** 2, 5 * reach) / 2
    cases = smooth((~np.isnan(loss)).astype(float), reach) * (2 * reach + 1)
    return np.sqrt(np.nan_to_num(variance) / np.maximum(cases, 1))


def _longest_run(inside: Bool[np.ndarray, " steps"], bridged: int) -> tuple[int, int]:
    """First and last index of the longest run of True, over gaps up to ``bridged``, or (0, -1)."""
    at = np.flatnonzero(inside)
    if len(at) == 0:
        return 0, -1
    runs = np.split(at, np.flatnonzero(np.diff(at) > bridged + 1) + 1)
    longest = max(runs, key=lambda run: run[-1] - run[0])
    return int(longest[0]), int(longest[-1])


def _measured(loss: Float[np.ndarray, " steps"], first: int, last: int) -> Plateau:
    from scipy.stats import t

    values = loss[first : last + 1]
    values = values[~np.isnan(values)]
    blocks = [block.mean() for block in np.array_split(values, max(2, len(values) // BLOCK))]
    level = float(values.mean())
    half = float(t.ppf(0.975, len(blocks) - 1) * np.std(blocks, ddof=1) / np.sqrt(len(blocks)))
    return Plateau(first, last, level, (level - half, level + half))
