"""What the page "How to read this book" says of machines that ran the book: see workflow/record.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from addlib.claims.threshold import VERDICTS, Threshold
from addlib.reading import written
from workflow.chapters import device_records

NONE = "The book has not been run on a GPU with the present code; expect close calls there, too.\n"


def device_text(claims: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: for each recorded device, which verdicts it gave that differ from these.

    A claim is compared where the thresholds are the same and both sides have a value.

    Args:
        claims: that the site shows.
    """
    return "\n".join(_compared(record, claims) for record in device_records()) or NONE


def _compared(record: Mapping[str, Any], claims: Sequence[Mapping[str, Any]]) -> str:
    device = record["device"]
    there = record["claims"]
    both = [
        claim
        for claim in claims
        if claim["id"] in there
        and claim["threshold"] == there[claim["id"]]["threshold"]
        and None not in (claim["value"], there[claim["id"]]["value"])
    ]
    rows = [claim for claim in both if claim["verdict"] != there[claim["id"]]["verdict"]]
    ran = sum(run["status"] == "done" for run in record["chapters"].values())
    lines = [
        f"One {device} ran {ran} chapters on {record['date']} (revision {record['revision']}, torch "
        f"{record['versions']['torch']}). Of {len(both)} claims that were measured there against "
        f"the thresholds of this page's run, {len(rows)} have another verdict.",
        "",
    ]
    if rows:
        lines += [f"| claim | threshold | here | on the {device} |", "|---|---|---|---|"]
    for claim in rows:
        cells = [_cell(claim), _cell(there[claim["id"]])]
        threshold = Threshold.parse(claim["threshold"]).written(claim["unit"])
        text = f"**{claim['id']}** {claim['statement']}"
        fields = [field.replace("|", "\\|") for field in (text, threshold, *cells)]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join([*lines, ""])


def _cell(claim: Mapping[str, Any]) -> str:
    verdict = claim["verdict"]
    return f"{written(claim['value'])} {VERDICTS[verdict].sign} {verdict}"
