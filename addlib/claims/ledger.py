"""The ledger of claims: a threshold fixed before the run, a measured value, and the verdict that
follows from both.

A notebook declares each claim and hands it the measured value; every claim becomes one file under
``claims/``. ``python -m addlib.claims.ledger collect`` checks the files, gathers them into ``claims.json``
and prints the score.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addlib.claims.provenance import revision, versions
from addlib.claims.threshold import (
    VERDICTS,
    Threshold,
    finite,
    parse_threshold,
    verdict,
)
from addlib.files import results_dir, write_whole

if TYPE_CHECKING:
    import pandas as pd


Record = dict[str, Any]


TEXTS = (
    "id",
    "chapter",
    "statement",
    "source",
    "metric",
    "threshold",
    "verdict",
    "device",
    "revision",
)
"""Keys of a record that hold a text, never an empty one; beside them stand value, ci and n_seeds.
"""


# -------------------------------------------------------------------------- claims
@dataclass(frozen=True)
class Claim:
    """A statement that a run can bear out or refute.

    Args:
        id: chapter number and name: ``"02.final-loss"``.
        chapter: the notebook's name without its ending: ``"02_training"``.
        statement: the claim in one sentence.
        source: who says so: a citation, or the book's own chapter.
        metric: what is measured, with its unit: ``"mean loss of the last 100 steps (nats)"``.
        threshold: the values that bear it out, fixed before the run.

    Raises:
        ValueError: for an empty text, an id of another form, or an id that belongs to another
            chapter.
    """

    id: str
    chapter: str
    statement: str
    source: str
    metric: str
    threshold: Threshold

    def __post_init__(self) -> None:
        for name in ("id", "chapter", "statement", "source", "metric"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"claim {self.id!r}: {name} = {text!r}: must be a text")
        if (
            not re.fullmatch(r"\d\d\.[a-z0-9][a-z0-9-]*", self.id)
            or self.chapter[:3] != self.id[:2] + "_"
        ):
            raise ValueError(
                f"claim {self.id!r} of {self.chapter!r}: the id must read like '02.final-loss' in "
                f"'02_training'"
            )
        if not isinstance(self.threshold, Threshold):
            raise ValueError(
                f"claim {self.id}: threshold = {self.threshold!r}: must be AtMost, AtLeast or "
                f"Between"
            )

    def measure(
        self,
        value: float,
        ci: tuple[float, float] | None = None,
        n_seeds: int = 1,
        device: object = "cpu",
        seed: int | None = None,
    ) -> Record:
        """Write the claim's record, whole or not at all, and return it.

        Runs with smoke parameters (``ADDLIB_SMOKE=1``) write to ``claims/smoke/``, out of the way
        of real ones.

        Args:
            value: the measured value, in the metric's unit.
            ci: ends of its interval (95 % unless the metric says otherwise); it must hold the
                value.
            n_seeds: training seeds behind the value.
            device: where it was measured. seed: the seed where there is just one.

        Raises:
            ValueError: for a value or an interval that is not finite, or an interval without the
                value.
        """
        value, ci = finite(f"claim {self.id}: value", value), _interval(f"claim {self.id}", ci)
        smoke = os.environ.get("ADDLIB_SMOKE") == "1"
        record = dict(
            id=self.id,
            chapter=self.chapter,
            statement=self.statement,
            source=self.source,
            metric=self.metric,
            value=value,
            ci=list(ci) if ci else None,
            threshold=str(self.threshold),
            n_seeds=int(n_seeds),
            verdict=verdict(value, ci, self.threshold),
            device=str(device),
            revision=revision(),
            seed=None if seed is None else int(seed),
            smoke=smoke,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
        )
        if flaws := _flaws(record):
            raise ValueError(f"claim {self.id}: {'; '.join(flaws)}")
        _write(results_dir() / "claims" / ("smoke" if smoke else "") / f"{self.id}.json", record)
        return record


def table(records: Sequence[Record], digits: int = 2) -> pd.DataFrame:
    """One row per claim, in the order of ids: threshold, value to `digits` significant digits,
    verdict.

    Made for output cells that a regression run compares: no date, no device, no digits that
    arithmetic may change.

    Raises:
        ValueError: where an id occurs twice, since one record file then overwrote the other.
    """
    import pandas as pd

    twice = [
        name for name, count in Counter(record["id"] for record in records).items() if count > 1
    ]
    if twice:
        raise ValueError(f"two claims share an id: {', '.join(twice)}")
    rows = [
        dict(
            id=r["id"],
            threshold=r["threshold"],
            value=f"{r['value']:.{digits}g}",
            verdict=r["verdict"],
        )
        for r in sorted(records, key=lambda record: record["id"])
    ]
    return pd.DataFrame(rows, columns=["id", "threshold", "value", "verdict"]).set_index("id")


def collect(folder: str | Path | None = None) -> list[Record]:
    """Gather ``claims/*.json`` of a results folder into its ``claims.json``, in the order of ids.

    Every record is checked: all keys there, numbers finite, the verdict the one that value,
    interval and threshold give, the file named after the id, no smoke run.

    Args:
        folder: the results folder; default `results_dir`.

    Raises:
        ValueError: naming each file that is not such a record, and why; ``claims.json`` then stays
            as it was.
    """
    folder = Path(folder) if folder is not None else results_dir()
    records, refused = [], []
    for path in sorted((folder / "claims").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            record, flaws = None, [f"is not JSON ({error})"]
        else:
            flaws = _flaws(record) or (
                [f"is named otherwise than its id {record['id']!r}"] * (record["id"] != path.stem)
            )
            flaws += ["comes from a smoke run"] * (not flaws and bool(record.get("smoke")))
        records.append(record)
        refused += [f"{path}: {'; '.join(flaws)}"] if flaws else []
    if refused:
        raise ValueError(
            "\n".join(["refused; delete these files or run their chapters again:", *refused])
        )
    _write(folder / "claims.json", records)
    return records


def _interval(name: str, ci: tuple[float, float] | None) -> tuple[float, float] | None:
    if ci is None:
        return None
    low, high = ci
    return finite(f"{name}: low end", low), finite(f"{name}: high end", high)


def _flaws(record: object) -> list[str]:
    """What keeps a record out of the ledger; empty for a sound one."""
    if not isinstance(record, dict):
        return ["is not a record"]
    flaws = [f"has no {key!r}" for key in (*TEXTS, "value", "ci", "n_seeds") if key not in record]
    flaws += [
        f"{key!r} is not a text" for key in TEXTS if key in record and not _is_text(record[key])
    ]
    if flaws:
        return flaws
    value, ci, n_seeds = record["value"], record["ci"], record["n_seeds"]
    if not _is_number(value):
        return [f"value {value!r} is not a finite number"]
    if ci is not None and not (
        isinstance(ci, list)
        and len(ci) == 2
        and all(map(_is_number, ci))
        and ci[0] <= value <= ci[1]
    ):
        return [f"interval {ci!r} does not hold the value {value!r}"]
    if not isinstance(n_seeds, int) or n_seeds < 1:
        return [f"n_seeds = {n_seeds!r} is not a count"]
    try:
        follows = verdict(value, ci, parse_threshold(record["threshold"]))
    except ValueError as error:
        return [str(error)]
    return (
        []
        if record["verdict"] == follows
        else [f"verdict {record['verdict']!r} does not follow; {follows!r} does"]
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, text.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``collect`` gathers the records and prints the score; the exit status is 1 for
    a refused record.
    """
    parser = argparse.ArgumentParser(
        prog="python -m addlib.claims.ledger", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser(
        "collect", help="check claims/*.json and gather them into claims.json"
    )
    collecting.add_argument(
        "--results", help="the results folder (default: ADDLIB_RESULTS, else ./results)"
    )
    options = parser.parse_args(arguments)
    try:
        records = collect(options.results)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    counts = Counter(record["verdict"] for record in records)
    print(f"{len(records)} claims: " + ", ".join(f"{counts[name]} {name}" for name in VERDICTS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
