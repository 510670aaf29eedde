"""Refusing configurations: whole numbers that are too small, numbers outside their range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_whole(config: Any, least: Mapping[str, int]) -> None:
    """Refuse a configuration whose named fields are not whole numbers of at least the given ones.

    Raises:
        ValueError: naming the field, its value and the allowed range.
    """
    for name, low in least.items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"{name} = {value!r}: must be a whole number of at least {low}")


def check_within(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a configuration with a named field outside its range; ``lr`` excludes the lower end, a
    beta the upper one.

    Raises:
        ValueError: naming the field, its value and the allowed range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        open_low, open_high = name == "lr", name.startswith("beta")
        inside = (low < value if open_low else low <= value) and (
            value < high if open_high else value <= high
        )
        if not inside:
            interval = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
            raise ValueError(f"{name} = {value!r}: must be in {interval}")
