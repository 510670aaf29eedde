"""Records of runs that are too long for a chapter: what was measured, when, on which device, by
which revision.

They are small JSON files that come with the package. A script under ``studies/`` makes each of them
anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from addlib.claims.provenance import revision, versions
from addlib.device import hardware
from addlib.files import write_whole

if TYPE_CHECKING:
    import pandas as pd


def read(name: str) -> dict[str, Any]:
    """The record of this name, with its ``date``, ``device``, ``revision``, ``versions`` and
    ``made_by``.

    Raises:
        ValueError: there is no such record; the text lists those there are.
    """
    folder = resources.files("addlib") / "data"
    found = folder / f"{name}.json"
    if not found.is_file() or "made_by" not in (
        record := json.loads(found.read_text(encoding="utf-8"))
    ):
        records = (path for path in folder.iterdir() if path.name.endswith(".json"))
        names = sorted(
            path.name[:-5]
            for path in records
            if "made_by" in json.loads(path.read_text(encoding="utf-8"))
        )
        raise ValueError(f"there is no record {name!r}; records: {', '.join(names)}")
    return record


def write(name: str, made_by: str, content: Mapping[str, Any]) -> Path:
    """Write a record beside the others and return its path; what made it, when and on which machine
    comes first.
    """
    head = {
        "made_by": made_by,
        "date": datetime.now(UTC).date().isoformat(),
        "device": hardware(),
        "revision": revision(),
        "versions": versions(),
    }
    path = Path(str(resources.files("addlib") / "data" / f"{name}.json"))
    path.parent.mkdir(exist_ok=True)
    write_whole(path, (json.dumps(head | dict(content), indent=1, allow_nan=False) + "\n").encode())
    return path


def source_line(record: Mapping[str, Any]) -> str:
    """Where a record's numbers come from, as one sentence for below a table."""
    return (
        f"Measured on {record['date']} on {record['device']} by `{record['made_by']}`, revision "
        f"{record['revision']}, "
        f"torch {record['versions']['torch']}."
    )


def seed_table(record: Mapping[str, Any], chapter: str) -> pd.DataFrame:
    """A chapter's claims over seeds: threshold, the seeds' lowest, middle and highest value, and
    how many hold.

    Args:
        record: the record "seeds". chapter: the notebook's name without its ending.
    """
    import pandas as pd

    rows = []
    for name, claim in record["claims"].items():
        if claim["chapter"] == chapter:
            low, middle, high = (f"{f(claim['values']):.3g}" for f in (min, median, max))
            verdicts = Counter(claim["verdicts"])
            verdict = ", ".join(f"{count} {word}" for word, count in verdicts.most_common())
            rows.append([name, claim["threshold"], low, middle, high, verdict])
    return pd.DataFrame(
        rows, columns=["claim", "threshold", "lowest", "median", "highest", "seeds"]
    )


def steady(table: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """A chapter's thresholds and verdicts, without verdicts that differ from seed to seed.

    Made for output cells that a regression run compares: what hangs on the seed may hang on the
    machine as well.

    Args:
        table: of :func:`addlib.claims.ledger.table`. record: the record "seeds".
    """
    verdicts = table[["threshold", "verdict"]].copy()
    for name in verdicts.index:
        if len(set(record["claims"].get(name, {"verdicts": []})["verdicts"])) > 1:
            verdicts.loc[name, "verdict"] = "differs between seeds"
    return verdicts
