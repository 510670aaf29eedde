"""The table of verdicts that depend on a machine's rounding, for the page on how to read the book."""

from __future__ import annotations

from typing import Any

from addlib.claims import stored
from addlib.claims.threshold import VERDICTS
from workflow.claims_page import number, shown_threshold


def rounding_table(record: dict[str, Any]) -> str:
    """Markdown: a sentence that counts, a row for each claim with differing verdicts, the source.

    Args:
        record: of studies/rounding.py.
    """
    differing = record["differing_verdicts"]
    lines = [
        f"Of {record['claims']} claims {len(differing)} have another verdict under another setting; "
        f"{record['same_value']} have the same value to four digits under all "
        f"{len(record['settings'])}.",
        "",
        f"| claim | threshold | {' | '.join(record['settings'])} |",
        "|---" * (2 + len(record["settings"])) + "|",
    ]
    for claim, row in differing.items():
        cells = [
            f"{number(value)} {VERDICTS[verdict].sign} {verdict}"
            for value, verdict in zip(row["values"], row["verdicts"], strict=True)
        ]
        claim_text = f"**{claim}** {row['statement']}"
        fields = [claim_text, shown_threshold(row["threshold"]), *cells]
        lines.append("| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |")
    return "\n".join([*lines, "", stored.source_line(record)])
