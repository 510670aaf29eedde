"""The form of chapter 08: the program of tables on a reader's own sum, and its place in the plane."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from addlib.analysis.carry_plane import CarryAxes, CarrySample
from addlib.analysis.pair_tables import CarryProgram, fit_pair_tables
from addlib.figures.lattice import STATES, state_places
from addlib.figures.palette import CYCLE


def carry_form(
    program: CarryProgram,
    lattices: Mapping[int, Mapping[str, Any]],
    first: tuple[int, int],
    decimals: int = 3,
) -> str:
    """HTML for the form; on the site ``book/_assets/carry.js`` fills it, elsewhere a sentence stands.

    Args:
        lattices: by answer column, what :func:`lattice_of` gives; a column may be left out.
        first: the sum that stands there first.
        decimals: so many are kept of tables and thresholds.
    """
    columns = sorted(program.tables)
    tables = [program.tables[k] for k in columns]
    shown = {
        "digits": columns[-1],
        "base": program.task.base,
        "table": [None, *(_rounded(of.values[..., 0].tolist(), decimals) for of in tables)],
        "level": [None, *(_rounded(of.constant.item(), decimals) for of in tables)],
        "theta": [None, *(_rounded(program.thresholds[k].tolist(), decimals) for k in columns)],
        "lattice": lattices,
        "states": STATES,
        "colours": {"own": CYCLE[0], "more": CYCLE[1], "wrong": CYCLE[4]},
        "first": first,
        "live": "../book/live.html",
    }
    stored = html.escape(json.dumps(shown, separators=(",", ":")))
    instead = "On the book's site a form stands here that asks the program any sum."
    return f'<div class="addlib-carry" data-program="{stored}">{instead}</div>'


def lattice_of(
    sample: CarrySample, axes: CarryAxes, line: Float[Tensor, " d_model"], shown: int = 600
) -> dict[str, Any]:
    """The lattice of one answer digit, as lists of numbers, and tables that place any sum in it.

    Args:
        line: unit vector; the position along it is what the program's tables add up to.
        shown: so many of the sample's sums are drawn; all of them fit the tables.
    """
    plane = axes.plane
    points = axes.rest(sample.resid_mid, sample.own) @ plane
    tables = fit_pair_tables(points, sample.questions, sample.k)
    marked = 2 * sample.wrong.long() + sample.more.long()
    few = slice(0, shown)
    return {
        "table": _rounded(tables.values.tolist(), 2),
        "level": _rounded(tables.constant.tolist(), 2),
        "line": _rounded((plane.T @ line).tolist(), 3),
        "points": _rounded(points[few].tolist(), 1),
        "marks": marked[few].tolist(),
        "places": _rounded(state_places(points.numpy(), sample.cells.numpy()), 1),
    }


def _rounded(numbers: Sequence | float | None, decimals: int) -> list | float | None:
    """Nested lists of numbers, each with so many decimals."""
    if isinstance(numbers, Sequence):
        return [_rounded(each, decimals) for each in numbers]
    return None if numbers is None else round(numbers, decimals)
