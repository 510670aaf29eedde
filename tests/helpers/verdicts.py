"""Verdicts on values that a test makes up."""

from __future__ import annotations

from addlib.claims.claim import declared


def verdict(id: str, value: float, ci: tuple[float, float] | None = None) -> str:
    """What a value and its interval say of a claim of the book."""
    return declared()[id].threshold.verdict(value, ci)
