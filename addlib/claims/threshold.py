"""Thresholds, and the verdict that a measured value and its interval give."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from addlib.reading import written

NUMBER = r"([-+.\deE]+)"


SHARES = ("fraction", "probability")
"""Units of shares, which readers see in per cent."""

PLAIN = ("ratio", "correlation", "count", "kappa", "difference", "from 0 to 1")
"""Units that say nothing behind a number."""


class Verdict(NamedTuple):
    """How readers see an outcome: its sign, and what one claim does and what several claims do."""

    sign: str
    one: str
    many: str


UNASKED = "could not be asked"
"""What is said of a claim about something that the model lacks; it counts as not borne out."""

VERDICTS = {
    "holds": Verdict("✓", "holds", "hold"),
    "fails": Verdict("✗", "fails", "fail"),
    "inconclusive": Verdict("?", "is inconclusive", "are inconclusive"),
}
"""All verdicts by name, in the order in which readers see them."""


@dataclass(frozen=True)
class Threshold:
    """The values that bear a claim out: from `low` to `high`, both included; one may be infinite.

    Raises:
        ValueError: neither limit is finite, one is NaN, or `low` exceeds `high`.
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        bounded = math.isfinite(self.low) or math.isfinite(self.high)
        if not bounded or not self.low <= self.high:
            raise ValueError(f"from {self.low} to {self.high}: needs a finite limit, low <= high")

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """The threshold that ``<= 0.05``, ``>= 0.9`` or ``in [0.6, 0.8]`` writes.

        Raises:
            ValueError: for any other text.
        """
        if match := re.fullmatch(rf"<= {NUMBER}", text):
            return cls(high=float(match[1]))
        if match := re.fullmatch(rf">= {NUMBER}", text):
            return cls(low=float(match[1]))
        if match := re.fullmatch(rf"in \[{NUMBER}, {NUMBER}\]", text):
            return cls(float(match[1]), float(match[2]))
        raise ValueError(f"threshold {text!r}: must read '<= a', '>= a' or 'in [a, b]'")

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {_text(self.high)}"
        if math.isinf(self.high):
            return f">= {_text(self.low)}"
        return f"in [{_text(self.low)}, {_text(self.high)}]"

    def written(self, unit: str) -> str:
        """As readers see it, for a claim of this unit: ``≥ 90%``, ``≤ 0.05``, ``0.6 to 0.8``."""
        percent = unit.startswith(SHARES)
        low, high = (written(100 * end if percent else end) for end in (self.low, self.high))
        sign = "%" if percent else ""
        if math.isinf(self.low):
            return f"≤ {high}{sign}"
        if math.isinf(self.high):
            return f"≥ {low}{sign}"
        return f"{low}{sign} to {high}{sign}"

    def is_near(self, values: Sequence[float]) -> bool:
        """Whether a limit lies in the range of these values, widened by a quarter at each end.

        None, one, or many equal ones have no range: no limit is near them.
        """
        if len(set(values)) < 2:
            return False
        margin = (max(values) - min(values)) / 4
        low = min(values) - margin
        high = max(values) + margin
        return any(low <= limit <= high for limit in (self.low, self.high))

    def verdict(self, value: float, ci: tuple[float, float] | None = None) -> str:
        """What a measurement says about a claim with this threshold.

        Args:
            value: the measured value; it decides where there is no interval.
            ci: ends of its interval.

        Returns:
            ``"holds"`` where the whole interval bears the claim out, ``"fails"`` where none of it
            does, else ``"inconclusive"``: an interval of 0.03 to 0.08 against ``<= 0.05``.
        """
        low, high = ci or (value, value)
        if self.low <= low and high <= self.high:
            return "holds"
        if high < self.low or low > self.high:
            return "fails"
        return "inconclusive"

    def beyond(self, value: float, ci: tuple[float, float]) -> tuple[float, list[float]]:
        """How far a value and its interval are past a one-sided threshold, in the interval's half-widths.

        Above 0 bears the claim out, and -1 to 1 has the threshold about inside the interval:
        8, from 7 to 9, against ``<= 10`` → 2, from 1 to 3.
        """
        half = (ci[1] - ci[0]) / 2 or 1.0
        limit, sign = (self.high, -1) if math.isinf(self.low) else (self.low, 1)
        ends = sorted(sign * (end - limit) / half for end in ci)
        return sign * (value - limit) / half, ends


def quantity(value: float | None, unit: str) -> str:
    """A value as readers see it: ``98.4%``, ``0.34``, ``0.015 nats``; a dash for none.

    Args:
        unit: of a claim; what stands behind a semicolon is about its interval.
    """
    if value is None:
        return "–"
    if unit.startswith(SHARES):
        return f"{written(100 * value)}%"
    return (
        written(value) if unit.startswith(PLAIN) else f"{written(value)} {unit.partition(';')[0]}"
    )


def span(ends: tuple[float, float], unit: str) -> str:
    """An interval as readers see it, its unit left to the value: ``98.2% to 98.5%``."""
    bare = unit if unit.startswith(SHARES) else PLAIN[0]
    return " to ".join(dict.fromkeys(quantity(end, bare) for end in ends))


def _text(number: float) -> str:
    return repr(float(number)).removesuffix(".0")
