"""The built site: where it is, whether it is complete, and which chapters it shows."""

from __future__ import annotations

import json
from pathlib import Path

from workflow.chapters import ROOT

SITE = ROOT / "_build" / "html"

COMPLETE = ".complete"
"""The file of a site of which everything was there: the graph's last output."""

SHOWN = "chapters.json"
"""The file of a staged book that lists the chapters whose last run went through."""


def shown_chapters(site: Path) -> list[str]:
    """The chapters that a site shows as executed; none where there is no site."""
    file = site / f".{SHOWN}"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
