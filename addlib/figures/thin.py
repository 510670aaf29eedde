"""Which points of a long line a page stores: gaps filled, lines thinned with every spike kept,
numbers packed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped


def as_array(values: object, name: str) -> np.ndarray:
    """Host float64 array of a numpy array, a tensor on any device, or a list; ValueError for
    anything else.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers ({error})") from error


def carry_forward(y: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Replace each NaN by the last value before it; NaNs before the first value stay.

    `[nan, 2, nan, nan, 5] → [nan, 2, 2, 2, 5]`
    """
    y = as_array(y, "y")
    last = np.maximum.accumulate(np.where(np.isnan(y), 0, np.arange(len(y))))
    return y[last]


def decimate(
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    max_points: int = 2000,
    log_x: bool = False,
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """Thin a line to at most `max_points` without losing a spike.

    The first and last points are kept. The points between fall into buckets of equal length along
    the axis, and each bucket keeps its smallest and its largest value.

    Args:
        x: positions, increasing.
        y: values, finite.
        max_points: at least 4.
        log_x: buckets of equal length on a logarithmic axis; x must then be positive.

    Raises:
        ValueError: for unequal lengths, values that are not finite, x that does not increase,
            max_points below 4.
    """
    x, y = as_array(x, "x"), as_array(y, "y")
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(
            f"x and y must be lines of the same length, not of shapes {x.shape} and {y.shape}"
        )
    if max_points < 4:
        raise ValueError(
            f"max_points = {max_points}: must be at least 4 (first, last and one bucket's extremes)"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite; carry_forward fills the gaps of a line")
    if (np.diff(x) <= 0).any():
        raise ValueError("x must increase from point to point")
    if log_x and len(x) and x[0] <= 0:
        raise ValueError(f"x starts at {x[0]:g}: must be positive on a logarithmic axis")
    if len(x) <= max_points:
        return x, y
    kept = _extremes(np.log(x) if log_x else x, y, n_buckets=(max_points - 2) // 2)
    return x[kept], y[kept]


def _extremes(
    x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"], n_buckets: int
) -> Int[np.ndarray, " kept"]:
    """Indices of both ends and of the extremes within each of `n_buckets` equal stretches of x."""
    inside = np.arange(1, len(x) - 1)
    bucket = np.minimum((x[inside] - x[0]) / (x[-1] - x[0]) * n_buckets, n_buckets - 1).astype(int)
    by_value = inside[
        np.lexsort((y[inside], bucket))
    ]  # bucket after bucket, ascending y within each
    starts = np.flatnonzero(
        np.diff(bucket, prepend=-1)
    )  # x increases, so the buckets' sizes are those in x order
    ends = np.append(starts[1:], len(inside)) - 1
    return np.unique(np.concatenate([[0, len(x) - 1], by_value[starts], by_value[ends]]))


def compact(values: Float[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """The same numbers for the page: whole numbers in the narrowest integer type, others rounded to
    float32.

    Others keep five significant digits, and stay float64 where float32 would overflow or vanish.
    NaN stays NaN.
    """
    if values.size == 0:
        return values
    largest = np.abs(values).max()
    if largest < 2**31 and (values == np.round(values)).all():
        return values.astype(np.min_scalar_type(-int(largest) - 1))
    rounded = _significant(values, digits=5)
    sizes = np.abs(rounded[np.isfinite(rounded) & (rounded != 0)])
    return rounded.astype(np.float32) if ((sizes > 1e-37) & (sizes < 1e38)).all() else rounded


def _significant(values: Float[np.ndarray, "*shape"], digits: int) -> Float[np.ndarray, "*shape"]:
    """Round to `digits` significant digits: 0.123456 → 0.12346 for 5."""
    exponent = np.floor(np.log10(np.where(values == 0, 1, np.abs(values))))
    power = 10.0 ** np.clip(digits - 1 - exponent, -300, 300)
    return np.round(values * power) / power
