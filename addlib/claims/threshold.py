"""Thresholds fixed in code before a run, and the verdict that a measured value and its interval
give.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

VERDICTS = ("holds", "fails", "inconclusive")


@dataclass(frozen=True)
class AtMost:
    """Values up to the limit bear the claim out: ``<= 0.05``."""

    limit: float

    def __post_init__(self) -> None:
        finite("limit", self.limit)

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value that bears the claim out."""
        return -math.inf, self.limit

    def __str__(self) -> str:
        return f"<= {_text(self.limit)}"


@dataclass(frozen=True)
class AtLeast:
    """Values from the limit on bear the claim out: ``>= 0.9``."""

    limit: float

    def __post_init__(self) -> None:
        finite("limit", self.limit)

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value that bears the claim out."""
        return self.limit, math.inf

    def __str__(self) -> str:
        return f">= {_text(self.limit)}"


@dataclass(frozen=True)
class Between:
    """Values from low to high, both included, bear the claim out: ``in [0.6, 0.8]``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if finite("low", self.low) > finite("high", self.high):
            raise ValueError(f"Between({self.low}, {self.high}): low must not exceed high")

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value that bears the claim out."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"in [{_text(self.low)}, {_text(self.high)}]"


Threshold = AtMost | AtLeast | Between


def parse_threshold(text: str) -> Threshold:
    """The threshold that a text such as ``"<= 0.05"`` writes; raises ValueError for other texts."""
    number = r"([-+.\deE]+)"
    for kind, pattern in (
        (AtMost, f"<= {number}"),
        (AtLeast, f">= {number}"),
        (Between, rf"in \[{number}, {number}\]"),
    ):
        if found := re.fullmatch(pattern, text):
            return kind(*map(float, found.groups()))
    raise ValueError(f"threshold {text!r}: must read '<= a', '>= a' or 'in [a, b]'")


def verdict(value: float, ci: tuple[float, float] | None, threshold: Threshold) -> str:
    """What the measurement says about the claim.

    Args:
        value: the measured value; it decides where there is no interval.
        ci: ends of its interval.
        threshold: the values that bear the claim out.

    Returns:
        ``"holds"`` where the whole interval bears the claim out, ``"fails"`` where none of it does,
        else ``"inconclusive"``: an interval of 0.03 to 0.08 against ``<= 0.05``.
    """
    low, high = ci or (value, value)
    least, most = threshold.span
    if least <= low and high <= most:
        return "holds"
    return "fails" if high < least or low > most else "inconclusive"


def finite(name: str, value: object) -> float:
    """The value as a float; raises ValueError with its name where it is NaN or infinite."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value}: must be a finite number")
    return number


def _text(number: float) -> str:
    return repr(float(number)).removesuffix(".0")
