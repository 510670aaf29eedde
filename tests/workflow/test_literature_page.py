"""Where things from the literature are: every item once, every place there."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils.nodes import make_id

from addlib.claims.claim import declared
from workflow.chapters import ROOT, WorkflowError, chapters
from workflow.claims_page import claim_target
from workflow.device_page import device_records
from workflow.literature_page import STATUSES, Item, literature, literature_tables

SOURCES, ITEMS = literature()

PLACES = sorted({place for item in ITEMS for place in item.place})


def anchors(page: str) -> set[str]:
    """The places that a page's committed source makes: headings, targets, figures, claims."""
    chapter = chapters().get(page)
    if chapter is None:
        prose = (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
        figures = []
    else:
        cells = nbformat.read(chapter.notebook, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        sources = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        figures = re.findall(r"^%%(?:figure|opening) \S+ \S+ (\S+)", sources, re.MULTILINE)
    found = {make_id(title) for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}
    found |= set(re.findall(r"^\((\S+)\)=$", prose, re.MULTILINE))
    found |= {f"fig-{name}" for name in figures}
    return found | {claim_target(c.id) for c in declared().values() if c.chapter == page}


def fault(place: str) -> str | None:
    """What is wrong with a place."""
    if place.startswith("file:"):
        return None if (ROOT / place.removeprefix("file:")).is_file() else "no such file"
    page, _, anchor = place.partition("#")
    if page not in chapters() and not (ROOT / "book" / f"{page}.md").is_file():
        return "no such page"
    return None if anchor in anchors(page) else "the page has no such place"


def test_every_item_is_there_once_in_order() -> None:
    assert [item.item for item in ITEMS] == list(range(1, 100))
    assert {item.source for item in ITEMS} == set(SOURCES)


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_there(place: str) -> None:
    assert fault(place) is None, place


@pytest.mark.parametrize(
    "place",
    [
        "02_training#fig-no-such-figure",
        "no_page#top",
        "file:no/such/file",
        "02_training#claim-02-x",
    ],
)
def test_a_wrong_place_is_noticed(place: str) -> None:
    assert fault(place)


def test_documents_are_named_by_citation() -> None:
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    for name in SOURCES.values():
        (key,) = re.findall(r"\{cite:[pt]\}`(\w+)`", name)
        assert f"{{{key}," in bibliography


def test_the_note_on_the_gpu_counts_the_chapters_that_ran_there() -> None:
    (record,) = device_records()
    known = chapters()
    ran = {name for name, run in record["chapters"].items() if run["status"] == "done"}
    note = ITEMS[1].note
    assert note.startswith(f"{len(ran)} of the {len(known)} chapters ran on one {record['device']}")
    others = [known[name].number for name in known if name not in ran]
    assert f"{', '.join(others[:-1])} and {others[-1]} have run on CPUs only" in note
    assert f"on one {record['device']}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_has_every_item_and_counts_them() -> None:
    page = literature_tables(chapters())
    for item in ITEMS:
        assert page.count(f'<span id="item-{item.item}">') == 1
    counts = {status: sum(item.status == status for item in ITEMS) for status in STATUSES}
    assert f"{counts['there']} are there, {counts['in part']} in part, {counts['open']}" in page
    assert page.count("*open*") == counts["open"]
    assert page.count("*in part*") == counts["in part"]


def test_a_chapter_that_has_not_run_is_linked_at_its_top() -> None:
    link = '../notebooks/02_training.html#exercises"'
    assert link in literature_tables(["02_training"])
    assert link not in literature_tables([])
    assert '../notebooks/02_training.html"' in literature_tables([])


GOOD = dict(item=1, what="a", owner="02", status="there", place=["02_training#exercises"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"from": "nobody"}, "not among the sources"),
        ({"status": "perhaps"}, "must be one of"),
        ({"place": []}, "has no place"),
        ({"status": "left out"}, "no note says what is left out and why"),
        ({"status": "in part"}, "no note says what is left out and why"),
        ({"status": "in part", "note": "a", "place": []}, "has no place"),
        ({"colour": "red"}, "unexpected keyword"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, change: dict, complaint: str) -> None:
    path = tmp_path / "literature.yml"
    entry = {"from": "addition"} | GOOD
    path.write_text(yaml.safe_dump({"sources": {"addition": "A"}, "items": [entry]}))
    assert literature(path)[1] == [Item(source="addition", **GOOD)]
    path.write_text(yaml.safe_dump({"sources": {"addition": "A"}, "items": [entry | change]}))
    with pytest.raises(WorkflowError, match=complaint):
        literature(path)
