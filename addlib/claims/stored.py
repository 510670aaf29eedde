"""Records of runs that are too long for a chapter, with what, when and where made them.

They are small JSON files that come with the package. A script under ``studies/`` or a sweep makes
each of them anew.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from addlib.claims.claim import Claim, declared
from addlib.claims.over_seeds import RECORDS, OverSeeds, over_seeds
from addlib.claims.provenance import revision, versions
from addlib.files import PACKAGE, write_whole


def read(name: str) -> dict[str, Any]:
    """The record of this name, with ``date``, ``device``, ``revision``, ``versions``, ``made_by``.

    Raises:
        ValueError: there is no such record; the text lists those there are.
    """
    path = PACKAGE / "data" / f"{name}.json"
    content = _content(path, path.stat().st_mtime_ns) if path.is_file() else {}
    if "made_by" not in content:
        raise ValueError(f"there is no record {name!r}; records: {', '.join(_names())}")
    return content


@functools.cache
def _content(path: Path, changed: int) -> dict[str, Any]:
    """What a file holds, read once for as long as it has not changed: each claim asks for records."""
    return json.loads(path.read_text(encoding="utf-8"))


def _names() -> list[str]:
    """The records that there are."""
    files = sorted((PACKAGE / "data").glob("*.json"))
    return [
        path.stem for path in files if "made_by" in json.loads(path.read_text(encoding="utf-8"))
    ]


def read_those(*names: str) -> list[dict[str, Any]]:
    """The records of these names that have been made, in this order."""
    made = {path.stem for path in (PACKAGE / "data").glob("*.json")}
    return [read(name) for name in names if name in made]


def on_other_seeds(claim: Claim) -> OverSeeds | None:
    """What models of other seeds say of a claim; None where no record has it.

    This is the one place that knows: the ledger, the claims page and the chapters ask here.
    """
    records = read_those(*RECORDS)
    return next(filter(None, (over_seeds(claim, record) for record in records)), None)


def outdated(claim: Claim) -> str | None:
    """Which record over seeds has this claim with a threshold that is not its own any more.

    None where there is none, or where a record with today's threshold is there.
    """
    if on_other_seeds(claim):
        return None
    for record in read_those(*RECORDS):
        entry = record["claims"].get(claim.id)
        if entry and entry["threshold"] != str(claim.threshold):
            models = len(entry["seeds"])
            then = f"{models} models of {record['date']} against {entry['threshold']}"
            return f"{then}, another threshold than today's; {record['made_by']} makes them again"
    return None


def clean_revision() -> str:
    """The revision that a record may name; a long run asks for it before it starts.

    Raises:
        ValueError: files differ from that revision, so nobody could find the code again.
    """
    name = revision()
    _check_clean(name)
    return name


def _check_clean(name: str) -> None:
    if name.endswith("-dirty"):
        raise ValueError(f"revision {name}: commit the changed files before a record is made")


def write(
    name: str,
    made_by: str,
    measured_on: str,
    content: Mapping[str, Any],
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write a record beside the others and return its path; what made it comes first.

    Args:
        measured_on: the device, as :func:`addlib.device.hardware` says it.
        made: ``date``, ``revision`` and ``versions`` of another machine's run; without it those of
            here and now.

    Raises:
        ValueError: files differ from the revision that the record would name.
    """
    if made is None:
        today = datetime.now(UTC).date().isoformat()
        made = {"date": today, "revision": clean_revision(), "versions": versions()}
    _check_clean(made["revision"])
    head = {
        "made_by": made_by,
        "date": made["date"],
        "device": measured_on,
        "revision": made["revision"],
        "versions": made["versions"],
    }
    path = PACKAGE / "data" / f"{name}.json"
    write_whole(path, (json.dumps(head | dict(content), indent=1, allow_nan=False) + "\n").encode())
    return path


def source_line(record: Mapping[str, Any]) -> str:
    """Where a record's numbers come from, as one sentence for below a table."""
    return (
        "Measured on {date} on {device} by `{made_by}`, revision {revision}, torch "
        "{versions[torch]}.".format_map(record)
    )


def seed_table(record: Mapping[str, Any], chapter: str) -> pd.DataFrame:
    """A chapter's claims over seeds: threshold, lowest, middle and highest value, how many hold.

    Args:
        record: one over seeds. chapter: the notebook's name without its ending.
    """
    rows = []
    for id, entry in record["claims"].items():
        if entry["chapter"] == chapter:
            values = [value for value in entry["values"] if value is not None]
            low, middle, high = (f"{f(values):.3g}" if values else "–" for f in (min, median, max))
            counts = Counter(entry["verdicts"]).most_common()
            verdicts = ", ".join(f"{count} {word}" for word, count in counts)
            rows.append([id, entry["threshold"], low, middle, high, verdicts])
    columns = ["claim", "threshold", "lowest", "median", "highest", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def steady(table: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """A chapter's thresholds and verdicts, without those that hang on the model it happens to have.

    Made for output cells that a regression run compares. Another machine trains another model from
    the same seed: rounding grows over thousands of steps. So a verdict is left out that differs
    between models of other seeds, or whose threshold lies within a quarter of the range of their
    values from that range: one more model may well lie beyond it.

    Args:
        table: of :meth:`addlib.claims.ledger.Ledger.table`. record: one over seeds.
    """
    verdicts = table[["threshold", "verdict"]].copy()
    for id in verdicts.index:
        others = over_seeds(declared()[id], record)
        if others is None:
            continue
        if not others.agree:
            verdicts.loc[id, "verdict"] = "differs between seeds"
        elif declared()[id].threshold.is_near(others.measured_values):
            verdicts.loc[id, "verdict"] = "too close to compare"
    return verdicts
