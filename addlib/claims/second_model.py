"""What a second language model says of chapter 15's claims: ``studies/second_llm.py`` makes the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from addlib.claims.ledger import Ledger
from addlib.claims.threshold import UNASKED, VERDICTS, quantity, span
from addlib.llm.weights import Source

RECORDED = {
    "15.second-model-typed": ("neurons", "typed", "15.late-neurons-typed"),
    "15.second-model-important-typed": (
        "neurons",
        "typed more than random",
        "15.important-are-typed",
    ),
    "15.second-model-knock-outs": ("neurons", "specificity", "15.knock-outs-are-specific"),
    "15.second-model-random-knock-outs": (
        "neurons",
        "random beside own",
        "15.random-knock-outs-are-not",
    ),
    "15.second-model-digit-swaps": ("digit swaps", "own digit", "15.digit-swaps-are-specific"),
    "15.second-model-looks-no-further": (
        "sights",
        "3 digits, 2 down",
        "15.second-pair-out-of-sight",
    ),
    "15.second-model-carry-at-operand": (
        "carry",
        "at the last operand digit",
        "15.carry-at-last-operand",
    ),
    "15.second-model-carry-beyond-digit": (
        "carry",
        "between sums that end alike",
        "15.carry-beyond-the-digit",
    ),
    "15.second-model-no-carry-at-equals": ("carry", "at =", "15.no-carry-at-equals"),
    "15.second-model-gradient-ranks-heads": ("estimates", "gradient, z", ""),
    "15.second-model-gradient-fails-for-streams": ("estimates", "gradient, resid_pre", ""),
    "15.second-model-relevance-mends-mlps": ("estimates", "relevance, mlp_out", ""),
    "15.second-model-relevance-beats-gradient": ("estimates", "relevance beyond gradient", ""),
}
"""Each claim's part of the record and result there, and the same claim about the first model.

Where there is none, chapter 12 has it on fewer pairs, and the record may have that part of the first model.
"""


def entry(record: Mapping[str, Any], model: str, part: str, result: str) -> dict[str, Any]:
    """A result of the record; without a value where the model can't do the task, or it isn't there."""
    made = record["parts"].get(f"{model}: {part}", {"results": {}})
    found: dict[str, Any] = made["results"].get(result, {})
    return found


def weights_of(record: Mapping[str, Any], part: str) -> str:
    """Which weights a part of the record is about, in words."""
    return str(Source(**record["parts"][part]["weights"]))


def measure_second(claims: Ledger, record: Mapping[str, Any]) -> None:
    """Measure the claims about the second model whose part the record has.

    One without a value could not be asked.
    """
    for id, (part, result, _) in RECORDED.items():
        if f"second: {part}" not in record["parts"]:
            continue
        found = entry(record, "second", part, result)
        weights = weights_of(record, f"second: {part}")
        if "value" in found:
            claims.measure(id, found["value"], tuple(found["interval"]), weights=weights)
        else:
            claims.lack(id, weights)


def beside(claims: Ledger, record: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each claim about the second model: both models' values with their intervals.

    What could not be asked counts as not borne out, as on the claims' page.

    The first model's are of the ledger's run, or of the record. Call it when both are measured.
    """
    measured = {one["id"]: one for one in claims.records}
    rows = []
    for id, (part, result, first) in RECORDED.items():
        claim = claims[id]
        own = entry(record, "first", part, result)
        if first in measured:
            own = {"value": measured[first]["value"], "interval": measured[first]["ci"]}
        of_second = entry(record, "second", part, result)
        verdict = measured[id]["verdict"] if id in measured else "fails"
        unasked = "" if "value" in of_second else f": {UNASKED}"
        rows.append(
            {
                "result": claim.metric.removeprefix("second model: ").removeprefix(
                    "second model, "
                ),
                "first model": _with_interval(own, claim.unit) if first or own else "chapter 12",
                "second model": _with_interval(of_second, claim.unit),
                "predicted": claim.threshold.written(claim.unit),
                "second model's verdict": f"{VERDICTS[verdict].sign} {verdict}{unasked}",
            }
        )
    return pd.DataFrame(rows)


def _with_interval(found: Mapping[str, Any], unit: str) -> str:
    """A value with its interval, as readers see it; a dash where there is none."""
    if found.get("value") is None:
        return "–"
    value = quantity(found["value"], unit)
    return f"{value} ({span(found['interval'], unit)})" if found.get("interval") else value


def sums_by_digit(record: Mapping[str, Any]) -> pd.DataFrame:
    """How many sums both models get right, whole and by digit, beside one digit of look-ahead.

    Digits are counted from the first, with the right ones before them given. The control comes last.
    """
    rows = []
    for part in ("first: adding", "second: adding", "first: examples that overflow"):
        made = record["parts"].get(part, {"results": {}})
        model, _, control = part.removesuffix("adding").partition(": ")
        for size, found in made["results"].items():
            if "digits" not in found:
                continue
            rows.append(
                {
                    "model": f"{model}, {control}" if control else model,
                    "sums": f"{found['n']} of {size}",
                    "whole": f"{found['value']:.0%}",
                    "digit by digit": _percents(found["digits"]),
                    "one digit of look-ahead": _percents(found["one digit of look-ahead"]),
                }
            )
    return pd.DataFrame(rows)


def _percents(shares: list[float]) -> str:
    """Shares in a row: ``96%, 100%``."""
    return ", ".join(f"{share:.0%}" for share in shares)
