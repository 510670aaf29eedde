"""The form of chapter 08 in which a reader asks the program of tables a sum of their choice."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence


def carry_form(
    base: int,
    tables: Mapping[int, Sequence],
    levels: Mapping[int, float],
    thresholds: Mapping[int, Sequence],
    first: tuple[int, int],
    decimals: int = 3,
) -> str:
    """HTML for the form; on the site ``book/_assets/carry.js`` fills it, elsewhere a sentence stands.

    Args:
        tables: by answer column, from 1 up: a number for each pair of digits of each column below.
        levels: by answer column, what is always added. thresholds: by own sum and carry out.
        first: the sum that stands there first.
        decimals: so many are kept.
    """
    columns = sorted(tables)
    program = {
        "digits": columns[-1],
        "base": base,
        "table": [None, *(_rounded(tables[k], decimals) for k in columns)],
        "level": [None, *(_rounded(levels[k], decimals) for k in columns)],
        "theta": [None, *(_rounded(thresholds[k], decimals) for k in columns)],
        "first": first,
        "live": "../book/live.html",
    }
    stored = html.escape(json.dumps(program, separators=(",", ":")))
    instead = "On the book's site a form stands here that asks the program any sum."
    return f'<div class="addlib-carry" data-program="{stored}">{instead}</div>'


def _rounded(numbers: Sequence | float, decimals: int) -> list | float:
    """Nested lists of numbers, each with so many decimals."""
    if isinstance(numbers, Sequence):
        return [_rounded(each, decimals) for each in numbers]
    return round(numbers, decimals)
