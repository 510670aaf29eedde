"""A Sphinx extension: which scripts a page asks for.

Not those of sphinx-thebe, which Jupyter Book 1.x adds to every page unasked: they declare one
constant twice, which is an error in the browser's console, and name a script on another host. But
plotly.js at once, where a page has figures: asked for where the first figure stands, it would come
behind all that the page's head asks for.
"""

from __future__ import annotations

from typing import Any

FIGURE = 'class="plotly-graph-div"'

PLOTLY = "_static/plotly.min.js"


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("html-page-context", _choose, priority=900)  # after the extensions that add scripts
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _choose(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    context["script_files"] = [
        script for script in context["script_files"] if not _of_thebe(script)
    ]
    if FIGURE in context.get("body", ""):
        address = context["pathto"](PLOTLY, resource=True)
        context["metatags"] = (
            context.get("metatags", "") + f'\n<link rel="preload" as="script" href="{address}" />'
        )


def _of_thebe(script: Any) -> bool:
    return "thebe" in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
