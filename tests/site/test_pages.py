"""The site of smoke runs in a real browser without a network, and checks that see what is broken."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urldefrag

import nbformat
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

from checks import (
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    browser_faults,
    file_faults,
    wait_until_drawn,
)
from smoke import RESULTS, SITE_FILES
from workflow.chapters import Results
from workflow.http_server import serving

pytestmark = pytest.mark.depends_on(*SITE_FILES)


@pytest.fixture(scope="session")
def site(request) -> Path:
    """The site under test: the one named by ADDLIB_SITE, else one built from smoke runs."""
    named = os.environ.get("ADDLIB_SITE")
    return Path(named).resolve() if named else request.getfixturevalue("smoke_site")


@pytest.fixture(scope="session")
def results() -> Results:
    """What the runs behind the site under test left."""
    return Results.default() if os.environ.get("ADDLIB_SITE") else RESULTS


@pytest.fixture(scope="session")
def pages(site) -> list[Path]:
    """Pages that readers open; the index only leads on to the first of them."""
    found = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    assert {"index.html", "01_setup.html", "claims.html", "glossary.html"} <= {
        path.name for path in found
    }
    return found


@pytest.fixture(scope="session")
def address(site):
    with serving(site) as url:
        yield url


@pytest.mark.parametrize(
    ("opened", "themes", "viewport"),
    [("from a server", ("dark", "light"), DESKTOP), ("from the disk", ("light",), PHONE)],
)
def test_every_page_shows_all_it_has(browser, site, pages, address, opened, themes, viewport):
    """On a desktop also when the theme changes while the page is open."""
    faults = {}
    for page in pages:
        name = str(page.relative_to(site))
        url = address + name if opened == "from a server" else page.as_uri()
        if found := browser_faults(browser, url, themes, viewport):
            faults[name] = found
    assert not faults, faults


def test_links_lead_somewhere_and_pages_are_small(site, pages):
    faults = {
        str(page.relative_to(site)): found for page in pages if (found := file_faults(site, page))
    }
    assert not faults, faults


@pytest.mark.parametrize("opened", ["from a server", "from the disk"])
def test_the_search_finds_a_word(browser, site, address, opened):
    """With a snippet of each page, where a browser lets scripts read pages."""
    page = browser.new_page()
    page.add_init_script("localStorage.setItem('mode', 'light')")
    faults = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    start = address if opened == "from a server" else f"{site.as_uri()}/"
    page.goto(f"{start}search.html?q=cascade")
    page.wait_for_function("document.querySelector('.search-summary')?.innerText")  # at the end
    page.wait_for_load_state("networkidle")
    hits = page.locator("#search-results li")
    snippets = page.locator("#search-results li .context")
    assert hits.locator("a").count() >= 2
    assert (snippets.count() > 0) == (opened == "from a server")
    assert not faults, faults
    page.close()


def test_the_claims_page_filters(browser, address):
    """One square and row for each claim; words, chapter and verdict choose rows, and stay chosen.

    Checks of the code have a table of their own.
    """
    page = browser.new_page()
    page.goto(address + "book/claims.html")
    rows = page.locator("#claims table").first.locator("tbody tr")
    total = rows.count()
    assert total == page.locator(".addlib-squares li a:not(.chapter, .check)").count() > 20
    assert page.locator(".addlib-filter output").inner_text() == f"{total} of {total} claims"

    def shown() -> list[str]:
        return [text.strip().lower() for text in rows.filter(visible=True).all_text_contents()]

    page.get_by_label("Words in a claim").fill("Head carry")
    assert 0 < len(shown()) < total
    assert all("head" in text and "carry" in text for text in shown())
    page.get_by_label("Words in a claim").fill("")
    page.get_by_label("Chapter", exact=True).select_option("03")
    page.locator("[name=verdict][value=fails]").uncheck()
    kept = shown()
    assert 0 < len(kept) < total
    assert all(text.startswith("03.") and not text.endswith("fails") for text in kept)
    page.goto(page.url)
    assert shown() == kept
    page.close()


def test_hidden_cells_that_follow_each_other_open_with_one_click(browser, address):
    page = browser.new_page()
    page.goto(address + "notebooks/02_training.html")
    leader = page.locator(".addlib-leads:not(.addlib-follows)").first
    follower = page.locator(".addlib-leads + .addlib-follows").first
    assert not follower.locator("summary").is_visible()
    leader.locator("summary").click()
    follower.locator(".cell_input").wait_for(state="visible")
    leader.locator("summary").click()
    follower.locator(".cell_input").wait_for(state="hidden")
    page.close()


def test_every_claim_leads_to_the_cell_that_measured_it(site, results):
    folder = site / "book"
    claims = BeautifulSoup((folder / "claims.html").read_text(encoding="utf-8"), "html.parser")
    links = {a.get_text(): a["href"] for a in claims.select("#claims tbody td:first-child a")}
    squares = [a["href"] for a in claims.select(".addlib-squares li a:not(.chapter)")]
    assert sorted(squares) == sorted(links.values())
    smoke = not os.environ.get("ADDLIB_SITE")
    records = {record["id"]: record for record in results.claims(smoke)}
    assert set(links) == set(records)
    chapter_pages, executed = {}, {}
    for name in {record["chapter"] for record in records.values()}:
        text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        chapter_pages[name] = BeautifulSoup(text, "html.parser")
        cells = nbformat.read(results.executed(name), as_version=4).cells
        executed[name] = {cell.get("execution_count"): cell.source for cell in cells}
    for name, record in records.items():
        address, anchor = urldefrag(links[name])
        assert address == f"../notebooks/{record['chapter']}.html"
        if record["cell"] is None:  # of a part that the model lacks
            assert not anchor
            continue
        target = chapter_pages[record["chapter"]].find(id=anchor)
        assert target, links[name]
        cell = target if "cell" in target.get("class", []) else target.find_parent(class_="cell")
        assert {part.name for part in target.find_previous_siblings() if cell != target} <= {"span"}
        source = executed[record["chapter"]][record["cell"]]
        assert cell.select_one(".cell_input pre").get_text().strip() == source.strip(), name


def test_the_live_page_runs_the_smoke_model(browser, address):
    page = browser.new_page()
    page.goto(address + "book/live.html#x=648&y=357")
    page.wait_for_function("window.addlibLive?.last", timeout=PATIENCE_MS)
    written = page.locator(".live-digit").all_inner_texts()
    said = page.locator("#live-says").inner_text()
    page.close()
    assert f"answers {''.join(written)}" in said
    assert ("all 6 digits are right" in said) == (written == list("001005"))


def test_the_first_page_says_where_a_readers_sum_lies(browser, address):
    page = browser.new_page()
    page.goto(address + "book/index.html")
    form = page.locator("#fig-foretell form")
    form.locator("[name=x]").fill("123")
    form.locator("[name=y]").fill("4")
    assert form.locator("svg .sum").count() == 1
    assert "123 + 4" in form.locator(".addlib-carry-plane").inner_text()
    page.close()


DRAWING_ORDER = """
let plotly;
window.drawn = [];
Object.defineProperty(window, "Plotly", {get: () => plotly, set: (library) => {
  const {newPlot} = plotly = library;
  library.newPlot = (div, ...rest) => { window.drawn.push(div.id); return newPlot(div, ...rest); };
}});
"""


def test_figures_in_view_are_drawn_first(browser, address):
    page = browser.new_page(viewport=DESKTOP)
    page.add_init_script(DRAWING_ORDER)
    page.goto(address + "notebooks/03_loss_shelves.html#fig-second-pair-moves")
    wait_until_drawn(page)
    drawn = page.evaluate(
        "window.drawn.map(id => [id, document.getElementById(id).getBoundingClientRect().top])"
    )
    page.close()
    first = [name for name, _ in drawn].index("plot-second-pair-moves")
    assert len(drawn) > 5
    assert all(abs(top) < 2 * DESKTOP["height"] for _, top in drawn[:first]), drawn


MIDDLES = """() => [...document.querySelectorAll(".js-plotly-plot")]
  .flatMap((plot) => [...plot._fullData, plot._fullLayout.coloraxis ?? {}])
  .filter((one) => one.colorscale?.length === 3).map((one) => one.colorscale[1][1])"""


def test_zero_in_a_diverging_scale_is_near_the_page_in_both_themes(browser, address):
    context = browser.new_context(viewport=DESKTOP)
    context.add_init_script(
        "localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')"
    )
    page = context.new_page()
    page.goto(address + "notebooks/12_qwen_multiplication.html")
    wait_until_drawn(page)
    opened = page.evaluate(MIDDLES)
    seen = {}
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.wait_for_timeout(500)
        seen[theme] = page.evaluate(MIDDLES)
    context.close()
    assert opened
    assert opened == seen["dark"] == ["#2e2e2e"] * len(opened)
    assert seen["light"] == ["#f2f2f2"] * len(opened)


IN_ONE_PLACE = 'text: "here", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false'

BREAKAGES = {
    "another host": (
        "</head>",
        '<script src="https://example.org/a.js"></script></head>',
        "asks another host",
    ),
    "missing script": (
        "</head>",
        '<script src="../_static/none.js"></script></head>',
        "status 404",
    ),
    "script error": ("</head>", "<script>nothing.at.all()</script></head>", "script error"),
    "undrawn figure": ("Plotly.newPlot(", "Plotly.validate(", "is not drawn"),
    "no alternative": (
        'role="img" aria-label="',
        'data-label="',
        "has no text for those who can't see it",
    ),
    "raw formula": ("</h1>", "</h1><p>\\(x^2\\)</p>", "raw markup in the text: \\("),
    "raw directive": ("</h1>", "</h1><p>:class: warning</p>", "raw markup in the text: :class:"),
    "long title": (
        "window.addlibPaint?.(spec, div.offsetWidth);",
        'spec.layout.yaxis.title = {text: "a long title ".repeat(9)};',
        "is cut off",
    ),
    "labels in one place": (
        "await Plotly.newPlot(",
        f"spec.layout.annotations = [{{{IN_ONE_PLACE}}}, {{{IN_ONE_PLACE}}}]; await "
        f"Plotly.newPlot(",
        "'here' lies on 'here'",
    ),
    "untypeset formula": (
        "</h1>",
        '</h1><span class="math tex2jax_ignore">x</span>',
        "is not typeset",
    ),
    "image without alt": ("</h1>", '</h1><img src="../_static/icon.svg">', "no alt text"),
    "skipped heading": ("</h1>", "</h1><h4>deep</h4>", "skips a level"),
    "too wide": (
        "</h1>",
        '</h1><div style="width:3000px;position:absolute">wide</div>',
        "wide on a screen",
    ),
    "faint text": (
        "</head>",
        "<style>figcaption {color: #f4f4f4 !important}</style></head>",
        "hard to read",
    ),
}


SECOND_PAGE = {"undrawn figure", "raw directive"}
"""Breakages that hide others: of two kinds of raw markup one is named."""


@pytest.mark.parametrize(
    "together", [set(BREAKAGES) - SECOND_PAGE, SECOND_PAGE], ids=["one page", "another"]
)
def test_the_browser_checks_see(together, browser: Browser, site, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_static").symlink_to(site / "_static")
    text = (site / "notebooks" / "01_setup.html").read_text(encoding="utf-8")
    for name in together:
        old, new, _ = BREAKAGES[name]
        assert old in text, name
        text = text.replace(old, new)
    (tmp_path / "notebooks" / "01_setup.html").write_text(text, encoding="utf-8")
    with serving(tmp_path) as url:
        faults = browser_faults(browser, url + "notebooks/01_setup.html", patience=5_000, tries=2)
    for name in together:
        assert any(BREAKAGES[name][2] in found for found in faults), (name, faults)


def test_the_file_checks_see_broken_links_and_large_pages(tmp_path):
    page = tmp_path / "a.html"
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    page.write_text('<a href="b.html#here">', encoding="utf-8")
    assert file_faults(tmp_path, page) == []
    page.write_text(
        '<a href="b.html#there"><a href="c.html"><a href="#gone">' + " " * 3_000_001,
        encoding="utf-8",
    )
    assert len(file_faults(tmp_path, page)) == 4
