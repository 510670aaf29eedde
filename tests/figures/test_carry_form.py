"""The form of chapter 08: its script against the program in Python, in a browser."""

from __future__ import annotations

import re

import pytest
import torch

from addlib.analysis.carry_plane import CarrySample, fit_axes, own_sum, states_below
from addlib.analysis.pair_tables import CarryProgram, PairTables
from addlib.figures.carry_form import carry_form, lattice_of
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions
from workflow.chapters import ROOT

TASK = AdditionTask(3)

DIGITS = (3, 2)
"""Digits with two pairs below."""


def random_program() -> CarryProgram:
    generator = torch.Generator().manual_seed(0)
    tables = {}
    thresholds = {}
    for k in range(1, 4):
        values = torch.randn(k, 10, 10, 1, generator=generator)
        tables[k] = PairTables(values, torch.randn(1, generator=generator))
        thresholds[k] = torch.randn(1 if k == 3 else 19, 2, generator=generator)
    return CarryProgram(TASK, tables, thresholds)


def planted_lattice(k: int) -> dict:
    """Of a stream of eight numbers in which the next two pairs have an axis each."""
    generator = torch.Generator().manual_seed(k)
    asked = nine_rich_questions(TASK, 3000, generator)
    stream = torch.randn(len(asked), 8, generator=generator) / 10
    stream[:, :2] += states_below(asked, k)[:, :2] * torch.tensor([3.0, 2.0])
    digits = (own_sum(asked, k) + (stream[:, 0] > 0)) % 10
    axes = fit_axes(stream, asked, k)
    return lattice_of(CarrySample(asked, k, stream, digits), axes, axes.line)


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser):
    form = carry_form(
        random_program(), {k: planted_lattice(k) for k in DIGITS}, first=(247, 185), decimals=6
    )
    script, style = (
        (ROOT / "book" / "_assets" / name).read_text(encoding="utf-8")
        for name in ("carry.js", "custom.css")
    )
    file = tmp_path_factory.mktemp("form") / "page.html"
    head = f"<!doctype html><meta charset=utf-8><style>{style}</style><script>{script}</script>"
    file.write_text(f'{head}<div class="bd-article"><div class="cell_output">{form}', "utf-8")
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    opened.goto(file.as_uri())
    yield opened
    opened.close()


def ask(page, x: int, y: int) -> Questions:
    page.fill("input[name=x]", str(x))
    page.fill("input[name=y]", str(y))
    return Questions.of(TASK, [(x, y)])


def row(page, name: str) -> list[str]:
    return page.locator(f"tr:has(th:text-is('{name}')) td").all_inner_texts()


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_it_writes_the_digits_of_the_program(page):
    program = random_program()
    asked = nine_rich_questions(TASK, 25, torch.Generator().manual_seed(1))
    for i in range(len(asked)):
        one = ask(page, *(TASK.value(of[i : i + 1]).item() for of in (asked.x, asked.y)))
        assert row(page, "right") == [str(digit) for digit in one.answer.flip(1)[0].tolist()]
        margins = [program.margin(one, k).item() for k in (3, 2, 1)]
        shown = [number(text) for text in row(page, "u less threshold") if text]
        assert shown == pytest.approx(margins, abs=0.051)
        own = [0, *(one.x + one.y)[0].flip(0).tolist()]
        called = [(s + (m > 0)) % 10 for s, m in zip(own, [*margins, -1.0], strict=True)]
        assert row(page, "program") == [str(digit) for digit in called]


def test_it_says_which_digit_will_be_wrong_and_leads_to_the_model(page):
    one = ask(page, 500, 498)
    program = random_program()
    wrong = [k for k in (3, 2, 1) if (program.margin(one, k) > 0) != one.carry[:, k]]
    said = page.inner_text(".addlib-carry-said p")
    assert [int(part[1]) for part in said.split() if part[0] == "A"] == wrong
    assert page.get_attribute("form a", "href") == "../book/live.html#x=500&y=498"


def diamond(page) -> tuple[float, float]:
    """Middle of the reader's sum, in the drawing's own units."""
    top = re.match(r"M([\d.]+) ([\d.]+)", page.get_attribute("path.sum", "d"))
    return float(top[1]), float(top[2]) + 9


def test_the_sum_lies_on_its_side_of_the_threshold_as_far_as_the_program_says(page):
    program = random_program()
    lattices = {k: planted_lattice(k) for k in DIGITS}
    for x, y in ((247, 185), (90, 9), (555, 445), (999, 1)):
        one = ask(page, x, y)
        for k in DIGITS:
            page.check(f"input[name=digit][value='{k}']")
            cut = page.locator(".cut")
            ends = [float(cut.get_attribute(name)) for name in ("x1", "y1", "x2", "y2")]
            (left, low, right, high), (across, down) = ends, diamond(page)
            on_line = left + (right - left) * (down - low) / (high - low)
            # all dots span the drawing's width, so units can be had from two of them
            points = torch.tensor(lattices[k]["points"])[:, 0]
            seen = [float(dot.get_attribute("cx")) for dot in page.locator("circle[r='2']").all()]
            unit = (max(seen) - min(seen)) / (points.max() - points.min()).item()
            margin = program.margin(one, k).item()
            along = lattices[k]["line"][0]
            assert (across - on_line) / unit * along == pytest.approx(margin, abs=0.1)


def test_the_digit_is_chosen_by_key_and_stays_when_the_sum_changes(page):
    page.focus("input[name=digit][value='3']")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[name=digit][value='2']")
    ask(page, 123, 456)
    said = page.get_attribute(".addlib-carry-plane svg[role=img]", "aria-label")
    assert said.startswith("A2 of 123 + 456: the pair below, 2 + 5 sums below nine;")
    assert "the pair two below, 3 + 6 sums to nine" in said


def test_the_picture_has_every_dot_and_rings_mistakes(page):
    page.check("input[name=digit][value='3']")
    marks = planted_lattice(3)["marks"]
    assert page.locator("circle[r='2']").count() == len(marks) == 600
    assert page.locator("circle[r='4.5']").count() == sum(mark > 1 for mark in marks)
    places = page.locator(".addlib-carry-plane text").all_text_contents()
    assert places[:3] == ["below nine", "to nine", "above nine"]


def test_a_phone_shows_all_of_it(page):
    ask(page, 999, 999)
    width = page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= 390


def test_until_one_is_chosen_the_digit_is_one_called_wrong_or_the_closest(page):
    program = random_program()
    for x, y in ((500, 498), (247, 185), (111, 222), (909, 90)):
        page.reload()
        one = ask(page, x, y)
        margins = {k: program.margin(one, k).item() for k in DIGITS}
        wrong = [k for k in DIGITS if (margins[k] > 0) != one.carry[0, k]]
        expected = wrong[0] if wrong else min(DIGITS, key=lambda k: abs(margins[k]))
        assert page.is_checked(f"input[name=digit][value='{expected}']")


@pytest.mark.parametrize("text", ["1000", "-1", "4.5", ""])
def test_other_texts_are_refused(page, text):
    page.fill("input[name=x]", text)
    assert page.inner_text(".addlib-carry-said") == "Type two whole numbers from 0 to 999."
    assert page.get_attribute("form a", "href") is None
    assert page.locator(".addlib-carry-plane svg").count() == 0


def test_without_lattices_the_program_is_there(page, browser):
    form = carry_form(random_program(), {}, first=(247, 185))
    script = (ROOT / "book" / "_assets" / "carry.js").read_text(encoding="utf-8")
    other = browser.new_page()
    other.set_content(form)
    other.add_script_tag(content=script)
    other.evaluate("document.dispatchEvent(new Event('DOMContentLoaded'))")
    assert other.locator("fieldset").is_hidden()
    assert len(row(other, "program")) == 4
    other.close()


def test_where_no_script_runs_a_sentence_stands():
    assert "On the book's site a form stands here" in carry_form(random_program(), {}, (1, 2))
