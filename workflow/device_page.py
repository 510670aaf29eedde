"""What pages say of machines that ran the book, from their records: see workflow/record.py.

"How to read this book" gets the verdicts that differ there, benchmarks/README.md the speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from addlib.claims.threshold import VERDICTS, Threshold
from addlib.reading import written
from workflow.chapters import device_records

COMPARED = {
    "train_step": ("training step of the main model", "naive_ms", "fast_ms", "ratio"),
    "pair_step": ("an epoch of the p = 113 model", "plain_ms", "fast_ms", "ratio"),
    "answers": (
        "a million questions",
        "library_s_per_million",
        "many_s_per_million",
        "ratio_to_library",
    ),
    "patching_qwen_shape": ("exact patching, random weights", "library_s", "ours_s", "ratio"),
}
"""Rows of benchmarks by the beginning of their name: what, the plain way, ours, and the ratio."""

TRAINED = {
    "main": "the main model with its snapshots",
    "grokking": "p = 113 to its stop rule",
    "eight seeds": "eight main models at once",
    "trainings of chapter 03": "small models of chapter 03",
    "trainings of chapter 10": "models of chapter 10",
}
"""Trainings from nothing that a record may have, and what they are."""

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


def speed_text() -> str:
    """Markdown: what each recorded device measured of speed; what it did not is not there."""
    return "\n".join(_speed(record) for record in device_records())


def _speed(record: Mapping[str, Any]) -> str:
    head = f"**One {record['device']}**, {record['cores']} cores, {record['date']}, torch "
    lines = [f"{head}{record['versions']['torch']}, revision {record['revision']}:", ""]
    lines += ["| what | plain | ours | ratio |", "|---|---|---|---|"]
    for name, row in record["benchmarks"].items():
        for beginning, (what, plain, ours, ratio) in COMPARED.items():
            if not name.startswith(beginning):
                continue
            unit = "ms" if plain.endswith("ms") else "s"
            low, high = row.get(f"{plain}_range", (row[plain], row[plain]))
            spread = f" ({low} to {high})" if low < high else ""
            times = f"{row[plain]} {unit}{spread} | {row[ours]} {unit}"
            lines.append(f"| {what} | {times} | {row[ratio]:.1f} |")
            for number in (8, 16):
                if each := row.get(f"stacked_{number}_ms"):
                    faster = f"{row[plain] / each:.1f}"
                    lines.append(f"| the same, one of {number} at once | | {each} ms | {faster} |")
    lines.append("")
    seconds = {what: record[part]["seconds"] for part, what in TRAINED.items() if part in record}
    if "seconds_of_all" in record:
        count = len(record["chapters"])
        seconds[f"{count} chapters side by side, with their trainings"] = record["seconds_of_all"]
    if seconds:
        times = "; ".join(f"{what} {number:.1f} s" for what, number in seconds.items())
        lines += [f"From nothing, files written: {times}.", ""]
    if "graphs" in record:
        apart = max(shape["apart"] for shape in record["graphs"].values())
        lines += [
            f"The first ten losses as a graph differ from those of the plain step by {written(apart)} "
            "nats at most.",
            "",
        ]
    return "\n".join(lines)
