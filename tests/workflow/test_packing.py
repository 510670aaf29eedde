"""How jobs share the cores: two always fit, and those that others wait for start first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from throwaway_book import Book
from workflow.chapters import Chapter, chapters
from workflow.packing import priorities, threads_for

pytestmark = pytest.mark.depends_on("workflow/**/*")

TWO_CORES = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")

MEETING = """
import os, pathlib, time
here, other = pathlib.Path({here!r}), pathlib.Path({other!r})
here.write_text(os.environ["OMP_NUM_THREADS"])
deadline = time.monotonic() + 60
while not other.exists():
    assert time.monotonic() < deadline, "nobody came"
    time.sleep(0.1)
"""
"""Source of a cell that waits for another job, and notes its own threads."""


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def chapter(run_time: str) -> Chapter:
    return Chapter(name="01_first", title="?", part="Chapters", run_time=run_time)


@pytest.mark.parametrize(
    ("wanted", "cores", "expected"),
    [(1, 2, 1), (2, 2, 1), (8, 2, 1), (2, 4, 2), (8, 16, 8), (8, 1, 1), (8, None, 8)],
)
def test_a_job_gets_at_most_half_of_the_cores(wanted: int, cores: int | None, expected: int):
    assert threads_for(wanted, cores) == expected


@pytest.mark.parametrize(
    ("run_time", "expected"),
    [
        ("14 s", 14),
        ("65 s, and once 6 min of training", 425),
        ("10 min, and once 3 to 6 min to fetch and unpack the weights", 960),
        ("160 s with the trained model of chapter 02", 160),
    ],
)
def test_a_run_time_is_read_as_seconds(run_time: str, expected: int) -> None:
    assert chapter(run_time).seconds == expected


def test_a_run_time_without_a_time_is_refused(book: Book) -> None:
    book.chapter("01_first")
    path = book.root / "workflow" / "chapters.yml"
    path.write_text(path.read_text().replace("run_time: 1 s", "run_time: soon"))
    done = book.run("-m", "workflow.run_graph")
    assert done.status == 2
    assert done.lines == [
        "error: chapters.yml: 01_first: run_time = 'soon': must name a time, like '65 s' or '6 min'"
    ]


def test_the_first_pages_then_trainings_then_long_chapters_come_first() -> None:
    known = chapters()
    numbers = priorities(known)
    order = sorted(numbers, key=numbers.__getitem__, reverse=True)
    assert order[:4] == ["01_setup", "main", "grokking", "02_training"]
    lengths = [known[name].seconds for name in order[4:]]
    assert lengths == sorted(lengths, reverse=True)
    assert order[4] == "12_qwen_multiplication"


@TWO_CORES
def test_no_chapter_however_many_threads_it_can_use_runs_alone(book: Book) -> None:
    """Each waits for the other's file, so one after the other they would wait for ever."""
    places = {name: str(book.root / name) for name in ("01_small", "02_large")}
    book.chapter("01_small", MEETING.format(here=places["01_small"], other=places["02_large"]))
    book.chapter("02_large", MEETING.format(here=places["02_large"], other=places["01_small"]))
    book.append("workflow/chapters.yml", "  threads: 999\n")
    done = book.run("-m", "workflow.run_graph", "chapters")
    assert done.status == 0, done.text
    threads = [int(Path(place).read_text()) for place in places.values()]
    assert threads == [1, len(os.sched_getaffinity(0)) // 2]


@TWO_CORES
def test_the_trainings_run_side_by_side(book: Book) -> None:
    """The training's stand-in notes its threads and waits for the other one's stamp."""
    book.chapter("01_first")
    book.append("workflow/chapters.yml", "  weights: [main, grokking]\n")
    meeting = MEETING.format(here="HERE", other="OTHER")
    here = "sys.argv[-1]"
    other = "sys.argv[-1].replace(*names if names[0] in sys.argv[-1] else names[::-1])"
    source = meeting.replace("'HERE'", here).replace("'OTHER'", other)
    book.write("addlib/training/runs.py", f"import sys\nnames = ['main', 'grokking']\n{source}")
    done = book.run("-m", "workflow.run_graph", "chapters")
    assert done.status == 0, done.text


def test_on_one_core_jobs_start_in_the_order_of_their_priorities(book: Book) -> None:
    order = book.root / "order"
    note = f"open({str(order)!r}, 'a').write({{!r}} + ' ')"
    names = ("01_first", "02_second", "03_short", "04_long")
    for name in names:
        book.chapter(name, note.format(name))
    text = "  weights: [main]\n  run_time: 5 min\n"
    path = book.root / "workflow" / "chapters.yml"
    entries = path.read_text().replace("04_long:\n", "04_long:\n" + text)
    head, _, last = entries.rpartition("  run_time: 1 s\n")
    path.write_text(head + last)
    training = "import sys\nopen(sys.argv[-1], 'w').write('{}')\n"
    book.write("addlib/training/runs.py", training + note.format("main"))
    command = ("-m", "snakemake", "chapters", "--cores", "1", "--scheduler", "greedy")
    done = book.run(*command)
    assert done.status == 0, done.text
    assert order.read_text().split() == ["01_first", "main", "02_second", "04_long", "03_short"]
