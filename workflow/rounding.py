"""Which verdicts depend on rounding: all chapters under other threads and another instruction set.

    python -m workflow.rounding    # hours; a second start goes on where the first one stopped

Each setting gets models of its own, trained anew, under results/rounding/. The record is
addlib/data/rounding.json; the page "How to read this book" shows it. A sum in another order rounds
differently, and training makes such differences larger. Threads change the order of sums in matrix
products, instruction sets that of all others.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from addlib.claims import stored
from addlib.claims.threshold import VERDICTS, Threshold
from addlib.reading import written
from workflow.chapters import ROOT, Results, chapters

SETTINGS = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "one thread, AVX2": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""What each setting puts into the environment; AVX-512 is used unless it says otherwise."""

SAME = 1e-4
"""Relative difference of two values that print as the same."""


def run(setting: str, names: list[str]) -> list[dict[str, Any]]:
    """Run the chapters that a setting lacks; the claims of all of them, in order."""
    results = Results(ROOT / "results" / "rounding" / setting.replace(", ", "-").replace(" ", "-"))
    cache = (
        Path(os.environ.get("ADDLIB_CACHE", ROOT / "weights")) / "rounding" / results.folder.name
    )
    environment = os.environ | SETTINGS[setting] | {"ADDLIB_CACHE": str(cache)}
    for name in names:
        if not results.executed(name).is_file():
            command = [sys.executable, "-m", "workflow.execute", name]
            command += ["--results", str(results.folder)]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
    files = sorted((results.folder / "claims").glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return [record for record in records if record["chapter"] in names]


def compared(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """How many claims there are, how many have the same value everywhere, which verdicts differ."""
    by_claim: dict[str, list[dict[str, Any]]] = {}
    for records in measured.values():
        for record in records:
            by_claim.setdefault(record["id"], []).append(record)
    complete = {claim: rows for claim, rows in by_claim.items() if len(rows) == len(measured)}
    same = [
        claim
        for claim, rows in complete.items()
        if all(math.isclose(row["value"], rows[0]["value"], rel_tol=SAME) for row in rows)
    ]
    differing = {
        claim: {
            "statement": rows[0]["statement"],
            "threshold": rows[0]["threshold"],
            "values": [row["value"] for row in rows],
            "verdicts": [row["verdict"] for row in rows],
        }
        for claim, rows in complete.items()
        if len({row["verdict"] for row in rows}) > 1
    }
    return {
        "settings": list(measured),
        "claims": len(complete),
        "same_value": len(same),
        "differing_verdicts": differing,
    }


def rounding_table(record: dict[str, Any]) -> str:
    """Markdown: a sentence that counts, a row for each claim with differing verdicts, the source.

    Args:
        record: of this module's command.
    """
    differing = record["differing_verdicts"]
    lines = [
        f"Of {record['claims']} claims, {len(differing)} have another verdict under another setting; "
        f"{record['same_value']} have the same value to four digits under all "
        f"{len(record['settings'])}.",
        "",
        f"| claim | threshold | {' | '.join(record['settings'])} |",
        "|---" * (2 + len(record["settings"])) + "|",
    ]
    for claim, row in differing.items():
        cells = [
            f"{written(value)} {VERDICTS[verdict].sign} {verdict}"
            for value, verdict in zip(row["values"], row["verdicts"], strict=True)
        ]
        claim_text = f"**{claim}** {row['statement']}"
        fields = [claim_text, Threshold.parse(row["threshold"]).written(unit=""), *cells]
        lines.append("| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |")
    return "\n".join([*lines, "", stored.source_line(record)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    import torch  # takes seconds

    from addlib.device import hardware

    stored.clean_revision()
    measured = {setting: run(setting, list(chapters())) for setting in SETTINGS}
    content = compared(measured)
    path = stored.write(
        "rounding", "python -m workflow.rounding", hardware(torch.device("cpu")), content
    )
    print(f"{len(content['differing_verdicts'])} verdicts differ; written to {path.name}")


if __name__ == "__main__":
    main()
