"""The early site: what has run can be read while the rest runs, and nothing takes it for complete."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from throwaway_book import CLAIM_CELL, Book
from workflow.build_site import build
from workflow.chapters import ROOT, Results, WorkflowError, chapters
from workflow.claims_page import CLAIM_FIELD
from workflow.early_site import reached
from workflow.first_page import recorded, write
from workflow.site import COMPLETE

pytestmark = pytest.mark.depends_on("workflow/**/*", "book/*", "addlib/data/*")

NAMES = ["01_a", "02_b", "03_c", "04_d", "05_e", "06_f"]

CLAIM = """\
  {id}:
    statement: It takes few steps.
    source: this chapter
    metric: steps
    unit: count
    threshold: "{threshold}"
    kind: claim
"""

RECORD = {
    "made_by": "a test",
    "date": "2026-01-02",
    "device": "Abacus",
    "revision": "abc",
    "claims": {
        name: {"value": value, "ci": None, "n_seeds": 1, "seed": 7}
        for name, value in (("01.steps", 77.0), ("02.late", 4.0), ("02.gone", 1.0))
    },
}

INDEX = "# Book\n\nSteps {01.steps}, then {02.late}: {02.late verdict}.\n"

GATE = """
import pathlib, time
while not pathlib.Path({!r}).exists():
    time.sleep(0.1)
"""


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A book of two chapters; the second one waits until ``gate`` is there."""
    book = Book(tmp_path)
    book.chapter("01_first", CLAIM_CELL)
    book.chapter("02_second", GATE.format(str(tmp_path / "gate")))
    claims = [
        "01_first:\n" + CLAIM.format(id="01.steps", threshold="<= 99"),
        "02_second:\n" + CLAIM.format(id="02.late", threshold=">= 5"),
    ]
    book.write("book/claims.yml", "".join(claims))
    book.write("book/index.md", INDEX)
    book.write("addlib/data/first_page.json", json.dumps(RECORD))
    return book


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it is so, while the process runs; two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], 0),
        (["03_c"], 0),
        (["01_a"], 1),
        (["01_a", "04_d"], 1),
        (["01_a", "02_b"], 2),
        (["01_a", "04_d", "05_e"], 2),
        (["01_a", "02_b", "05_e"], 3),
        (NAMES, 3),
    ],
)
def test_milestones_are_the_first_two_chapters_and_half(done: list[str], expected: int) -> None:
    assert reached(done, NAMES) == expected


def test_the_first_pages_stand_while_a_chapter_runs_and_give_way_to_the_whole(book: Book) -> None:
    site = book.root / "_build" / "html"
    process = book.start("-m", "workflow.run_graph")
    wait_for((site / "index.html").is_file, process)
    early = book.page("book/index")
    assert "Chapters that have run: 01 (1 of 2)" in early
    assert "Steps 10, then 4*" in early
    assert "✗ fails</span></a>*" in early
    assert "measured on Abacus on 2026-01-02, revision abc" in early
    assert "2 claims: 1 holds, 1 fails." in book.page("book/claims")
    assert "1 of them was measured in an earlier run*." in book.page("book/claims")
    assert 'class="fails recorded"' in book.page("book/claims")
    assert "This chapter is running" in book.page("notebooks/02_second")
    assert "02 · Is this 02_second? (not yet)" in early
    assert "Is this 01_first? (not yet)" not in early
    assert not (site / COMPLETE).exists()

    (book.root / "gate").touch()
    text, _ = process.communicate()
    assert process.returncode == 0, text
    line = "_build/html/index.html can be read now: chapters so far: 01; the others go on."
    assert text.count("can be read now") == text.splitlines().count(line) == 1
    whole = book.page("book/index")
    assert "Chapters that have run" not in whole
    assert "4*" not in whole
    assert "(not yet)" not in whole
    assert "1 claim: 1 holds." in book.page("book/claims")
    assert (site / COMPLETE).is_file()
    assert json.loads((site / ".chapters.json").read_text()) == ["01_first", "02_second"]
    names = {path.stem for path in (book.results.folder / "runs").iterdir()}
    assert {"early_site_2", "site"} <= names


def test_a_complete_site_stays_while_a_changed_chapter_runs(book: Book) -> None:
    (book.root / "gate").touch()
    assert book.run("-m", "workflow.run_graph").status == 0
    before = book.page("book/index")
    (book.root / "gate").unlink()
    book.chapter("01_first", CLAIM_CELL, "1 + 1")
    book.chapter("02_second", GATE.format(str(book.root / "gate")), "1 + 1")
    process = book.start("-m", "workflow.run_graph")
    wait_for(lambda: book.runs("01_first") == 2, process)
    done = book.run("-m", "workflow.early_site")
    assert (done.status, done.text) == (0, "")
    assert book.page("book/index") == before
    (book.root / "gate").touch()
    text, _ = process.communicate()
    assert process.returncode == 0, text
    assert "can be read now" not in text


def test_what_the_site_shows_already_is_not_built_again(book: Book) -> None:
    """As after a run in which a chapter failed: the site has a page that says so."""
    gate = (book.root / "gate").touch
    book.chapter("02_second", "1 / 0")
    assert book.run("-m", "workflow.run_graph").status != 0
    assert "division by zero" in book.page("notebooks/02_second")
    book.chapter("02_second", GATE.format(str(book.root / "gate")))
    process = book.start("-m", "workflow.run_graph")
    wait_for(lambda: book.results.is_running("02_second"), process)
    time.sleep(3)
    gate()
    text, _ = process.communicate()
    assert process.returncode == 0, text
    assert "can be read now" not in text


def test_an_early_site_that_can_not_be_built_is_a_sentence_and_stops_nothing(book: Book) -> None:
    book.write("book/index.md", "# Book\n\n{03.unknown}\n")
    process = book.start("-m", "workflow.run_graph")
    wait_for((book.root / "_build" / "early").is_dir, process)
    time.sleep(3)
    book.write("book/index.md", INDEX)
    (book.root / "gate").touch()
    text, _ = process.communicate()
    assert process.returncode == 0, text
    said = (
        "The early site was not built ({03.unknown}: book/claims.yml has no claim 03.unknown); "
        "the chapters go on."
    )
    assert text.splitlines().count(said) == 1
    assert "Traceback" not in text


def test_without_a_record_values_to_come_are_dashes(book: Book) -> None:
    (book.root / "addlib" / "data" / "first_page.json").unlink()
    assert book.run("-m", "workflow.execute", "01_first").status == 0
    done = book.run("-m", "workflow.early_site")
    assert done.status == 0, done.text
    assert "Steps 10, then –: –." in book.page("book/index")
    assert "earlier run" not in book.page("book/index")


def test_what_a_killed_build_left_is_removed(book: Book) -> None:
    leftover = book.root / "_build" / ".html-killed"
    leftover.mkdir(parents=True)
    assert book.run("-m", "workflow.execute", "01_first").status == 0
    assert book.run("-m", "workflow.early_site").status == 0
    assert not leftover.exists()


def test_a_build_gives_way_to_a_complete_site(tmp_path: Path) -> None:
    site = tmp_path / "html"
    site.mkdir()
    (site / COMPLETE).touch()
    assert build(tmp_path / "stage", site, tolerant=True, early=True) == 0
    with pytest.raises(WorkflowError, match="the site was not built"):
        build(tmp_path / "stage", site, tolerant=True)


# ---------------------------------------------------------------------------- the record
def test_the_record_is_made_of_a_complete_run_only(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(
        WorkflowError, match=r"01_setup, .*17_modular_looks did not run: `make book`"
    ):
        write(results)
    for name in chapters():
        results.executed(name).parent.mkdir(exist_ok=True)
        results.executed(name).touch()
    with pytest.raises(WorkflowError, match="no claims were collected"):
        write(results)


def test_the_record_has_each_number_of_the_first_page() -> None:
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    wanted = {id for id, _ in CLAIM_FIELD.findall(text)}
    missing = wanted - {record["id"] for record in recorded()}
    assert not missing, "after `make book`, python -m workflow.first_page records them"
