"""Where a loss curve rests, where it falls and where it spikes: one explicit rule for each, for all digits and runs.

A loss recorded at each step is the mean of one batch: a smooth curve plus noise. All rules look at a running mean, and
take the noise from the differences of successive steps. Steps without a value (NaN) do not count, so a caller can leave
out batches of another kind.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from addlib.decimation import as_array

ERRORS = 3.0
"""Half-width of a plateau's band, at least so many standard errors of the running mean: noise seldom leaves it."""

BLOCK = 10
"""Steps of a block whose mean counts as one draw in the interval of a plateau's level."""


@dataclass(frozen=True)
class Plateau:
    """A stretch of steps on which a curve rests: its ends (first step is 0), its mean loss and a 95 % interval, nats.

    The interval is that of the mean of means over blocks of steps, so a slope within the stretch widens it.
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
    """The step at which a curve leaves one level for another; ``first`` to ``last`` is the middle half of the way."""

    step: int
    first: int
    last: int


@dataclass(frozen=True)
class Spike:
    """A brief rise: the step where it is highest, its height above the losses around it (nats), and its z-score."""

    step: int
    height: float
    z: float


def smooth(values: Float[np.ndarray, " steps"], reach: int = 50) -> Float[np.ndarray, " steps"]:
    """Mean over the steps within ``reach`` on either side; NaN steps do not count, and NaN is left where all are.

    Raises:
        ValueError: values that are no line of finite numbers and NaN, or a negative reach.
    """
    values = _line(values)
    if reach < 0:
        raise ValueError(f"reach = {reach}: must be 0 or more steps")
    known = ~np.isnan(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(known, values, 0.0), known))
    first = np.maximum(np.arange(len(values)) - reach, 0)
    last = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    cases = counts[last] - counts[first]
    return np.where(cases > 0, (sums[last] - sums[first]) / np.maximum(cases, 1), np.nan)


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

    The rule. Around a level L lies a band, L ± w, with w the largest of ``band`` · L, ``zero`` and three standard
    errors of the running mean. The curve rests at L if its running mean stays in the band for T ≥ ``least`` steps (out
    of it never longer than half of ``reach``), and if it crosses the bands of the same width just above, on its way in,
    and just below, on its way out, at least ``ratio`` times faster. At the start of a run there is no way in and at the
    end no way out: then only the other condition counts. Of levels whose stretches overlap, the one with the longest
    stretch is kept.

    So a steady exponential decay has no plateau, at any speed: it spends as long in one band as in the next. Noise
    around a constant level is one plateau. In a fall, noise may feign a short one, of a wide interval.

    Args:
        loss: nats by step. reach: of the running mean, steps.
        band, zero: half-width of the bands, relative and in nats. least: steps. ratio: above 1.

    Raises:
        ValueError: a loss that is no line of numbers ≥ 0 and NaN, or settings out of range.
    """
    loss = _line(loss)
    if not (band > 0 and zero > 0 and least >= 2 and ratio > 1):
        raise ValueError(f"band = {band}, zero = {zero}, least = {least}, ratio = {ratio}: must be > 0, > 0, ≥ 2, > 1")
    if (loss < 0).any():
        raise ValueError(f"loss holds {np.nanmin(loss):g}: must be 0 or more nats")
    mean = smooth(loss, reach)
    at = np.flatnonzero(~np.isnan(mean))
    if len(at) < least:
        return []
    mean, error = mean[at], _standard_error(loss, reach)[at]
    found: list[tuple[int, int]] = []
    for level in np.linspace(np.sqrt(mean.min()), np.sqrt(mean.max()), 400) ** 2:
        inside = np.abs(mean - level) <= np.maximum(max(band * level, zero), ERRORS * error)
        first, last = _longest_run(inside, reach // 2)
        if last - first + 1 < least:
            continue
        width = max(band * level, zero, ERRORS * float(error[first : last + 1].mean()))
        above, below = mean > level + 3 * width, mean < level - 3 * width
        way_in = first - 1 - np.flatnonzero(above[:first])[-1] if above[:first].any() else None
        way_out = np.flatnonzero(below[last + 1 :])[0] if below[last + 1 :].any() else None
        if all(way is None or last - first + 1 >= ratio * way for way in (way_in, way_out)):
            found.append((first, last))
    kept: list[tuple[int, int]] = []
    for first, last in sorted(found, key=lambda run: run[0] - run[1]):
        if all(last < other_first or first > other_last for other_first, other_last in kept):
            kept.append((first, last))
    return [_measured(loss, int(at[first]), int(at[last])) for first, last in sorted(kept)]


def rest_at(loss: Float[np.ndarray, " steps"], level: float, tolerance: float, **rule: float) -> Plateau | None:
    """The plateau nearest a predicted level; None where none lies within ``tolerance`` nats of it.

    Args:
        rule: settings of :func:`plateaus`.
    """
    near = [plateau for plateau in plateaus(loss, **rule) if abs(plateau.level - level) <= tolerance]
    return min(near, key=lambda plateau: abs(plateau.level - level), default=None)


def fall(
    loss: Float[np.ndarray, " steps"], above: float, below: float, *, reach: int = 10, log: bool = False
) -> Fall | None:
    """When a curve leaves the level ``above`` for the level ``below``; None if it never does, or starts below.

    The rule: the first step from which the running mean stays under halfway between the levels, with a step over
    halfway before it. ``first`` and ``last`` are the same for a quarter and three quarters of the way down; ``last`` is
    at most the final step where the curve gets halfway but not that far.

    Args:
        above, below: levels, nats. log: halfway in ln loss (the geometric mean) instead of in loss.

    Raises:
        ValueError: levels in the wrong order, or not positive with ``log``.
    """
    if not above > below or (log and below <= 0):
        raise ValueError(f"above = {above}, below = {below}: must fall{' to a positive level' if log else ''}")
    mean = smooth(loss, reach)
    ways = [above * (below / above) ** w if log else above + (below - above) * w for w in (0.25, 0.5, 0.75)]
    first, step, last = (_stays_under(mean, level) for level in ways)
    if not step:
        return None
    return Fall(step, first or 0, len(mean) - 1 if last is None else last)


def spikes(
    loss: Float[np.ndarray, " steps"], *, reach: int = 25, threshold: float = 5.0, least: float = 0.02
) -> list[Spike]:
    """Brief rises of a curve above what came before and after, in time order.

    The rule works on ln loss, where noise is about as wide at a high as at a low level. On either side of a step the
    ``reach`` nearest steps have a median and a spread, 1.4826 times the median distance from it (a standard deviation
    for normal noise). The z-score is the distance above the higher of the two medians, over the wider of the two
    spreads. Steps with z > ``threshold`` that stand at least ``least`` nats above that median are part of a spike;
    those within ``reach`` of each other are one, with its highest step. A fall or a rise to stay is none, nor is a rise
    that lasts longer than half of ``reach``, or one so near an end of the run that it lacks a side.

    Raises:
        ValueError: a loss that is not positive (NaN is allowed), or settings out of range.
    """
    loss = _line(loss)
    if (loss <= 0).any():
        raise ValueError(f"loss holds {np.nanmin(loss):g}: must be above 0 nats")
    if reach < 5 or threshold <= 0 or least < 0:
        raise ValueError(f"reach = {reach}, threshold = {threshold}, least = {least}: must be ≥ 5, > 0, ≥ 0")
    if len(loss) <= 2 * reach:
        return []
    logs = np.log(loss)
    windows = np.lib.stride_tricks.sliding_window_view(logs, reach)  # (first step of the window, reach)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a window without any value: NaN is meant
        medians = np.nanmedian(windows, axis=1)
        spreads = 1.4826 * np.nanmedian(np.abs(windows - medians[:, None]), axis=1)
    middle = np.maximum(medians[: -reach - 1], medians[reach + 1 :])  # of the steps from reach to len - reach - 1
    spread = np.maximum(spreads[: -reach - 1], spreads[reach + 1 :])
    inner, base = logs[reach:-reach], np.exp(middle)
    z = (inner - middle) / np.maximum(spread, 1e-3)
    height = np.exp(inner) - base
    high = np.flatnonzero((z > threshold) & (height >= least))
    groups = np.split(high, np.flatnonzero(np.diff(high) > reach) + 1) if len(high) else []
    tops = [int(group[np.argmax(height[group])]) for group in groups]
    return [Spike(top + reach, float(height[top]), float(z[top])) for top in tops]


def _line(values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    values = as_array(values, "values")
    if values.ndim != 1 or len(values) == 0 or np.isinf(values).any():
        raise ValueError(f"values of shape {values.shape}: must be a line of finite numbers, or NaN for none")
    return values


def _standard_error(loss: Float[np.ndarray, " steps"], reach: int) -> Float[np.ndarray, " steps"]:
    """Standard error of the running mean: successive differences hold twice the variance of the noise."""
    variance = smooth(np.append(np.diff(loss), np.nan) ** 2, 5 * reach) / 2
    cases = smooth((~np.isnan(loss)).astype(float), reach) * (2 * reach + 1)
    return np.sqrt(np.nan_to_num(variance) / np.maximum(cases, 1))


def _longest_run(inside: Bool[np.ndarray, " steps"], bridged: int) -> tuple[int, int]:
    """First and last index of the longest run of True, across gaps of up to ``bridged``; (0, -1) without any."""
    at = np.flatnonzero(inside)
    if len(at) == 0:
        return 0, -1
    runs = np.split(at, np.flatnonzero(np.diff(at) > bridged + 1) + 1)
    longest = max(runs, key=lambda run: run[-1] - run[0])
    return int(longest[0]), int(longest[-1])


def _stays_under(mean: Float[np.ndarray, " steps"], level: float) -> int | None:
    """First step from which the curve stays under the level; None if it ends above it."""
    over = np.flatnonzero(mean > level)
    if len(over) == 0:
        return 0
    return None if over[-1] == len(mean) - 1 else int(over[-1]) + 1


def _measured(loss: Float[np.ndarray, " steps"], first: int, last: int) -> Plateau:
    from scipy.stats import t

    values = loss[first : last + 1]
    values = values[~np.isnan(values)]
    blocks = [block.mean() for block in np.array_split(values, max(2, len(values) // BLOCK))]
    level = float(values.mean())
    half = float(t.ppf(0.975, len(blocks) - 1) * np.std(blocks, ddof=1) / np.sqrt(len(blocks)))
    return Plateau(first, last, level, (level - half, level + half))
