"""The rows of results.json, which all benchmarks write, and the devices that have rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results.json"


def devices() -> list[str]:
    """The CPU, and the GPU where there is one: each is measured, and has rows of its own."""
    return ["cpu"] + ["cuda"] * torch.cuda.is_available()


def add_rows(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Write rows by name beside those of other benchmarks and devices; all that are there then."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= rows
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return results
