"""The form of chapter 08: its script against the program in Python, in a browser."""

from __future__ import annotations

import pytest
import torch

from addlib.analysis.pair_tables import CarryProgram, PairTables
from addlib.figures.carry_form import carry_form
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions
from workflow.chapters import ROOT

TASK = AdditionTask(3)


def random_program() -> CarryProgram:
    generator = torch.Generator().manual_seed(0)
    tables = {}
    thresholds = {}
    for k in range(1, 4):
        values = torch.randn(k, 10, 10, 1, generator=generator)
        tables[k] = PairTables(values, torch.randn(1, generator=generator))
        thresholds[k] = torch.randn(1 if k == 3 else 19, 2, generator=generator)
    return CarryProgram(TASK, tables, thresholds)


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser):
    program = random_program()
    form = carry_form(
        10,
        {k: tables.values[..., 0].tolist() for k, tables in program.tables.items()},
        {k: tables.constant.item() for k, tables in program.tables.items()},
        {k: theta.tolist() for k, theta in program.thresholds.items()},
        first=(247, 185),
        decimals=6,
    )
    script = (ROOT / "book" / "_assets" / "carry.js").read_text(encoding="utf-8")
    file = tmp_path_factory.mktemp("form") / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><script>{script}</script>{form}", "utf-8")
    opened = browser.new_page()
    opened.goto(file.as_uri())
    yield opened
    opened.close()


def row(page, name: str) -> list[str]:
    return page.locator(f"tr:has(th:text-is('{name}')) td").all_inner_texts()


def test_it_writes_the_digits_of_the_program(page):
    program = random_program()
    asked = nine_rich_questions(TASK, 25, torch.Generator().manual_seed(1))
    for i in range(len(asked)):
        one = asked[i : i + 1]
        for name, digits in (("x", one.x), ("y", one.y)):
            page.fill(f"input[name={name}]", str(TASK.value(digits).item()))
        assert row(page, "right") == [str(digit) for digit in one.answer.flip(1)[0].tolist()]
        margins = [program.margin(one, k).item() for k in (3, 2, 1)]
        shown = [float(text.replace("−", "-")) for text in row(page, "u less threshold") if text]
        assert shown == pytest.approx(margins, abs=0.051)
        own = [0, *(one.x + one.y)[0].flip(0).tolist()]
        called = [(s + (m > 0)) % 10 for s, m in zip(own, [*margins, -1.0], strict=True)]
        assert row(page, "program") == [str(digit) for digit in called]


def test_it_says_which_digit_will_be_wrong_and_leads_to_the_model(page):
    page.fill("input[name=x]", "500")
    page.fill("input[name=y]", "498")
    one = Questions.of(TASK, [(500, 498)])
    program = random_program()
    wrong = [k for k in (3, 2, 1) if (program.margin(one, k) > 0) != one.carry[:, k]]
    said = page.inner_text("form p")
    assert [int(part[1]) for part in said.split() if part[0] == "A"] == wrong
    assert page.get_attribute("form a", "href") == "../book/live.html#x=500&y=498"


@pytest.mark.parametrize("text", ["1000", "-1", "4.5", ""])
def test_other_texts_are_refused(page, text):
    page.fill("input[name=x]", text)
    assert page.inner_text("form div") == "Type two whole numbers from 0 to 999."
    assert page.get_attribute("form a", "href") is None
