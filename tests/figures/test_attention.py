"""Attention views: the numbers are in the file, and nothing else is needed to draw them."""

import re
from types import SimpleNamespace

import torch

from addlib import notebook
from addlib.figures.attention import AttentionView, save_attention
from addlib.figures.palette import line_colours
from addlib.notebook import figure_magic

TOKENS = ["D0=3", "+", "D'0=</script>", "="]


def view(heading="3+4=07", heads=("carry", "base add")):
    pattern = torch.tril(torch.ones(len(TOKENS), len(TOKENS)))
    pattern = (pattern / pattern.sum(-1, keepdim=True)).repeat(len(heads), 1, 1)
    pattern[1, 3] = torch.tensor([0.1234, 0.5, 0.0, 0.3766])
    return AttentionView(heading, TOKENS, heads, pattern)


def drawn_in(browser, path):
    """Opens the file; returns the requests it made, the errors it raised, and the canvases of each
    view.
    """
    asked, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('canvas').length > 0")
    canvases = page.evaluate(
        "[...document.querySelectorAll('[id^=circuits-vis]')].map(v => "
        "v.querySelectorAll('canvas').length)"
    )
    text = page.inner_text("body")
    page.close()
    return asked, errors, canvases, text


def test_a_saved_view_holds_its_numbers_and_draws_without_a_network(tmp_path, browser):
    path = save_attention(
        tmp_path / "new" / "view.html", [view(), view("4+3=07")], title="Two questions"
    )
    page = path.read_text(encoding="utf-8")
    assert "[0.1234, 0.5, 0.0, 0.3766]" in page
    assert not re.search(
        r"""(src|href)\s*=\s*["']?(https?:)?//|\bimport\s*[({"']|unpkg|sourceMappingURL""",
        page[:5000],
    )
    assert "unpkg" not in page and "sourceMappingURL" not in page
    asked, errors, canvases, text = drawn_in(browser, path)
    assert asked == [path.as_uri()]
    assert errors == []
    assert canvases == [3, 3]  # a small map for each head, and a large one
    assert {"3+4=07", "4+3=07", "base add", "carry"} <= set(re.split(r"\n+", text))


LARGEST = "Math.max(...[...document.querySelectorAll('canvas')].map((map) => map.getBoundingClientRect().width))"


def test_the_large_map_follows_the_window_both_ways(tmp_path, browser):
    page = browser.new_page(viewport={"width": 900, "height": 900})
    page.goto(save_attention(tmp_path / "view.html", [view()]).as_uri())
    page.wait_for_function(f"{LARGEST} > 400")
    wide = page.evaluate(LARGEST)
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_function(f"{LARGEST} < 320")
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_function(f"{LARGEST} === {wide}")
    page.close()


def test_a_page_of_the_book_brings_the_script_and_other_places_get_it_with_the_figure(monkeypatch):
    figures = []
    monkeypatch.setattr(
        notebook, "display", lambda bundle, raw: figures.append(bundle["text/html"])
    )
    names = {"views": [view()]}
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(user_ns=names))
    told = ("views 5.1 views", "Where heads look.\n\nAlt: Maps of attention.")
    monkeypatch.setenv("ADDLIB_RESULTS", "results")
    figure_magic(*told)
    monkeypatch.delenv("ADDLIB_RESULTS")
    figure_magic(*told)
    on_page, alone = figures
    assert len(on_page) < 20_000 and len(alone) > 1_000_000
    assert (on_page.count("</script"), alone.count("</script")) == (1, 2), (
        "a token or the script ends its element"
    )
    for page in figures:
        assert 'id="circuits-vis-views-0"' in page
        assert 'id="fig-views"' in page and 'role="img" aria-label="Maps of attention."' in page


def test_each_head_has_its_own_colour_whatever_stands_before_it(tmp_path):
    heads = ("no role", "carry")
    page = save_attention(tmp_path / "view.html", [view(heads=heads)]).read_text(encoding="utf-8")
    for place, head in enumerate(heads, 1):
        colour = line_colours([*heads])[head]
        assert f"nth-child({place}) h4 {{ background: {colour} !important" in page
