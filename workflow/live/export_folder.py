"""The two files of an exported model: their names, and reading them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MODEL = "model.onnx"

PAGE = "page.json"


def read(folder: Path) -> tuple[bytes, dict[str, Any]] | None:
    """The model file and what goes with it; None where one lacks or they don't belong together."""
    try:
        data = (folder / MODEL).read_bytes()
        page = json.loads((folder / PAGE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return (data, page) if page.get("sha256") == hashlib.sha256(data).hexdigest() else None
