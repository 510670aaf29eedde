"""What a page stores of an array: checked numbers, long lines thinned, values packed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped


def as_array(values: object, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Host float64 array of an array, a tensor on any device, or a list.

    Args:
        name: what the values are called in a message. shape: what it must be; None takes any.

    Raises:
        ValueError: another shape, an infinite value, or no numbers; NaN is a gap.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values, dtype=np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: its axes or names make {shape}")
    if np.isinf(array).any():
        raise ValueError(f"{name} must be finite; NaN is a gap")
    return array


def decimate(
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    max_points: int,
    log_x: bool = False,
) -> tuple[Float[np.ndarray, " stored"], Float[np.ndarray, " stored"]]:
    """Thin a line to at most `max_points` without losing a spike.

    The first and last points are kept. The points between fall into buckets of equal length along
    the axis, and each bucket keeps its smallest and its largest value.

    Args:
        x: positions, increasing. y: values, without gaps. max_points: at least 4.
        log_x: buckets of equal length on a logarithmic axis; x must then be positive.
    """
    if len(x) <= max_points:
        return x, y
    place = np.log(x) if log_x else x
    share = (place[1:-1] - place[0]) / (place[-1] - place[0])
    n_buckets = (max_points - 2) // 2
    bucket = np.minimum(share * n_buckets, n_buckets - 1).astype(int)
    between = pd.Series(y[1:-1], index=range(1, len(y) - 1))
    lowest = between.groupby(bucket).idxmin()
    highest = between[::-1].groupby(bucket[::-1]).idxmax()  # the last one where several are equal
    stored = np.unique([0, *lowest, *highest, len(x) - 1])
    return x[stored], y[stored]


def compact(values: Float[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """The same numbers in fewer bytes; NaN stays NaN.

    Whole numbers take the narrowest integer type. Others keep five significant digits, as float32
    where that neither overflows nor vanishes.
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
