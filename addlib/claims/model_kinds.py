"""What chapter 08 claims over models of two kinds, from records of the chapter run on many seeds.

A model is of the *first kind* if it has a second axis (08.second-axis holds), else of the *second
kind*. ``make sweep`` with the grids ``carry_5000`` and ``carry_10000`` makes the records, with
``carry_shapes`` that of other shapes. A record of which cells are missing says nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from addlib.claims.claim import declared

CHAPTER = "08_carry_plane"

TELLS_KIND = "08.second-axis"

DECLARED_LATER = (
    "08.program-on-twins",
    "08.attention-by-rule",
    "08.parts-replaced",
    "08.rest-resampled",
)
"""Predictions that were added after those over kinds, which are not about them."""

OF_SECOND_KIND = {
    "08.second-kind-third-axis": ("08.third-axis", max),
    "08.second-kind-program-on-top": ("08.program-on-top", min),
    "08.second-kind-program-below": ("08.program-below", min),
    "08.second-kind-surest-300": ("08.surest-300", min),
    "08.second-kind-plane": ("08.plane-followed", min),
    "08.second-kind-accuracy": ("08.adds-well", max),
}
"""A claim over models of the second kind, the claim whose values it looks at, and the worst one."""


SHAPES = {
    "n_heads": "{} heads",
    "width": "width {}",
    "lr": "rate {:g}",
    "steps": "{:,} steps",
    "n_digits": "{} digits",
}
"""What a shape is called by the parameters that differ from the chapter's own."""

COLUMNS = {
    "right": "08.adds-well",
    "second axis": "08.second-axis",
    "third axis": "08.third-axis",
    "d' three below": "08.blind-three-below",
    "plane followed": "08.plane-followed",
    "surest 300": "08.surest-300",
}
"""What :func:`shape_table` shows of a model, by the claim that has the value."""

ADDS_WELL = 0.98
"""Share of uniform sums right from which a model of another shape should have the plane."""


class OverModels(NamedTuple):
    """A value over several models, and how many there are.

    A value that is that of the worst model has no interval: a better model can't save it.
    """

    value: float
    n_seeds: int


def whole(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that lack no cell of their grid."""
    return [record for record in records if not record.get("missing")]


def over_kinds(records: Sequence[Mapping[str, Any]]) -> dict[str, OverModels]:
    """The claims over kinds that the records bear on, by id; none without records.

    Args:
        records: of :func:`addlib.claims.stored.read`, the one of the fewest steps first: it says
            how many models of each kind there are.

    Raises:
        ValueError: a model of the second kind lacks one of the values.
    """
    found: dict[str, OverModels] = {}
    records = whole(records)
    if not records:
        return found
    first = [_by_seed(record, TELLS_KIND) for record in records]
    second = [
        (record, seed)
        for record, kinds in zip(records, first, strict=True)
        for seed, (_, verdict) in kinds.items()
        if verdict != "holds"
    ]
    of_few_steps = first[0]
    late = sum(verdict != "holds" for _, verdict in of_few_steps.values())
    found["08.both-kinds"] = OverModels(late, len(of_few_steps))
    failing = {
        id
        for record, kinds in zip(records, first, strict=True)
        for id in predictions()
        for seed, (_, kind) in kinds.items()
        if kind == "holds" and _by_seed(record, id).get(seed, (None, "fails"))[1] == "fails"
    }
    found["08.first-kind-all"] = OverModels(len(failing), len(of_few_steps))
    for id, (source, worst) in OF_SECOND_KIND.items():
        values = []
        for record, seed in second:
            value, _ = _by_seed(record, source).get(seed, (None, ""))
            if value is None:
                raise ValueError(f"{source}: seed {seed} has no value: run the sweep again")
            values.append(value)
        if values:
            found[id] = OverModels(worst(values), len(values))
    return found


def over_shapes(records: Sequence[Mapping[str, Any]]) -> dict[str, OverModels]:
    """The claim over shapes, by id: the least exchange where a model adds well; none without records.

    Args:
        records: that of other shapes, or nothing.
    """
    for record in whole(records):
        accuracy = _by_seed(record, "08.adds-well")
        followed = _by_seed(record, "08.plane-followed")
        values = [
            followed.get(seed, (None, ""))[0] or 0.0  # an exchange that was not measured failed
            for seed, (right, _) in accuracy.items()
            if right is not None and right >= ADDS_WELL
        ]
        if values:
            return {"08.other-shapes": OverModels(min(values), len(values))}
    return {}


def shape_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each model of another shape: its shape, and the values in `COLUMNS`.

    Args:
        records: that of other shapes, or nothing. A value is None where the model lacks it.
    """
    rows = []
    for record in whole(records):
        values = {name: _by_seed(record, id) for name, id in COLUMNS.items()}
        for run in record["runs"].values():
            shape = [
                SHAPES[name].format(of) for name, of in run["parameters"].items() if name in SHAPES
            ]
            found = {name: of.get(run["seed"], (None, ""))[0] for name, of in values.items()}
            rows.append({"shape": ", ".join(shape), "seed": run["seed"]} | found)
    return pd.DataFrame(rows, columns=["shape", "seed", *COLUMNS])


def predictions() -> list[str]:
    """The chapter's claims about a model of the first kind that stood when its kinds were predicted."""
    return [
        id
        for id, claim in declared().items()
        if claim.chapter == CHAPTER
        and claim.kind == "claim"
        and not claim.needs
        and id not in (TELLS_KIND, "08.adds-well", *DECLARED_LATER)
    ]


def _by_seed(record: Mapping[str, Any], id: str) -> dict[int, tuple[float | None, str]]:
    """Value and verdict of a claim by seed; empty where the record does not have it."""
    entry = record["claims"].get(id, {"seeds": [], "values": [], "verdicts": []})
    columns = zip(entry["values"], entry["verdicts"], strict=True)
    return dict(zip(entry["seeds"], columns, strict=True))
