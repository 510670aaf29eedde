"""Which scripts a page asks for."""

from __future__ import annotations

import pytest

from workflow import sphinx_scripts


def chosen(body: str, scripts: list[str]) -> dict:
    def pathto(target: str, resource: bool = False) -> str:
        assert resource
        return f"../{target}"

    context = {"body": body, "script_files": scripts, "metatags": "<meta>", "pathto": pathto}
    sphinx_scripts._choose(None, "page", "page.html", context, None)
    return context


def test_scripts_of_thebe_are_left_out():
    assert chosen("", ["a.js", "https://x.org/thebe/b.js", "c.js"])["script_files"] == [
        "a.js",
        "c.js",
    ]


@pytest.mark.parametrize("figures", [0, 1, 3])
def test_a_page_with_figures_asks_for_plotly_at_once_and_others_do_not(figures):
    body = '<p></p><div id="plot-a" class="plotly-graph-div"></div>' * figures
    link = '<link rel="preload" as="script" href="../_static/plotly.min.js" />'
    assert chosen(body, [])["metatags"].count(link) == min(figures, 1)
