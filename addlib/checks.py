"""Refusing configurations: every message names the field, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def check_whole(config: Any, least: int, *names: str, most: int | None = None) -> None:
    """Raise ValueError for a field that is no whole number from ``least`` to ``most``."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    for name in names:
        value = getattr(config, name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < least or (most is not None and value > most):
            raise ValueError(f"{name} = {value!r}: must be a whole number {limits}")


def check_within(config: Any, interval: str, *names: str) -> None:
    """Raise ValueError for a field outside the interval, e.g. ``"(0, 1]"`` from above 0 to 1."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name in names:
        value = getattr(config, name)
        above = value > low if interval[0] == "(" else value >= low
        below = value < high if interval[-1] == ")" else value <= high
        if not (above and below):
            raise ValueError(f"{name} = {value!r}: must be in {interval}")


def check_choice(config: Any, choices: Collection[Any], *names: str) -> None:
    """Raise ValueError for a field that is none of the choices; 1 is not True."""
    for name in names:
        value = getattr(config, name)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise ValueError(f"{name} = {value!r}: must be {' or '.join(map(repr, choices))}")
