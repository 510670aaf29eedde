"""The numbers that the first page shows until the chapters have measured them.

    python -m workflow.first_page    results/claims.json -> addlib/data/first_page.json

An early site (`workflow.early_site`) has few executed chapters. Of the others it shows what the
last complete run has measured, with a mark. The record holds values only: statements, thresholds
and so the verdicts are those that are declared now.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from addlib.claims import stored
from addlib.claims.claim import declared
from workflow.chapters import Results, WorkflowError, chapters, shown

RECORD = "first_page"

KEPT = ("value", "ci", "n_seeds", "seed", "weights")
"""What is kept of a claim's record; weights are a language model's."""


def recorded() -> list[dict[str, Any]]:
    """The declared claims that the record has a value for, as a chapter would have measured them.

    Each has ``recorded``, the sentence that says where the values come from. Empty where nobody has
    made the record.
    """
    try:
        record = stored.read(RECORD)
    except ValueError:
        return []
    found = []
    for id, claim in declared().items():
        measured = record["claims"].get(id)
        # without a value: what it asks does not apply to the run (a second model that can't add)
        if measured and measured["value"] is not None:
            found.append(
                {
                    "id": id,
                    "chapter": claim.chapter,
                    "statement": claim.statement,
                    "source": claim.source,
                    "metric": claim.metric,
                    "unit": claim.unit,
                    "threshold": str(claim.threshold),
                    "kind": claim.kind,
                    "registered": str(claim.registered or ""),
                    "seen": claim.seen,
                    "verdict": claim.threshold.verdict(measured["value"], measured["ci"]),
                    "device": record["device"],
                    "revision": record["revision"],
                    "recorded": f"measured on {record['device']} on {record['date']}, revision "
                    f"{record['revision']}",
                    "cell": None,
                    **measured,
                }
            )
    return found


def write(results: Results) -> Path:
    """Make the record from the ledger of a complete run, and return its path.

    Raises:
        WorkflowError: a chapter has not been executed, or no claim has been collected.
        ValueError: files differ from the revision that the record would name.
    """
    missing = [name for name in chapters() if not results.executed(name).is_file()]
    claims = results.claims()
    if missing or not claims:
        reason = f"{', '.join(missing)} did not run" if missing else "no claims were collected"
        raise WorkflowError(f"the record is made from a complete run, and {reason}: `make book`")
    import torch  # takes seconds, and the site does not need it

    from addlib.device import hardware

    devices = {claim["device"] for claim in claims}
    names = {hardware(torch.device("cpu")) if name == "cpu" else name for name in devices}
    content = {
        "date": max(claim["date"] for claim in claims)[:10],
        "device": ", ".join(sorted(names)),
        "revision": ", ".join(sorted({claim["revision"] for claim in claims})),
        "claims": {
            claim["id"]: {key: claim[key] for key in KEPT if key in claim} for claim in claims
        },
    }
    return stored.write(RECORD, "python -m workflow.first_page", content["device"], content)


def main() -> int:
    """Command line; the exit status is 1 where no record was made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        path = write(Results.default())
    except (WorkflowError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The first page's numbers: {shown(path)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
