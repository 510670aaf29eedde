"""A Sphinx extension: leaves out sphinx-thebe's scripts, which Jupyter Book 1.x adds to every page unasked.

They declare one constant twice, which is an error in the browser's console, and name a script on another host.
"""

from __future__ import annotations

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("html-page-context", _drop, priority=900)  # after the extension that adds them
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _drop(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    context["script_files"] = [script for script in context["script_files"] if not _of_thebe(script)]


def _of_thebe(script: Any) -> bool:
    return "thebe" in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
