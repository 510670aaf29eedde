"""The live page in a real browser, with the book's main model: it says what the library says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from addlib.analysis.ablation import Ablation, hooks
from addlib.analysis.answers import answer
from addlib.analysis.roles import answer_patterns
from addlib.models.addition import answer_logits
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import generated_suite, joined, uniform_questions
from addlib.tasks.subtasks import MISTAKES, base_sum, mistakes
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from checks import PATIENCE_MS
from workflow import npm_files
from workflow.chapters import ROOT
from workflow.http_server import serving
from workflow.live import export_folder, page_data
from workflow.live import scripts as live_scripts
from workflow.live.model_file import references

pytestmark = pytest.mark.depends_on("book/_assets/**/*")

TASK = AdditionTask()

PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>live</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="../_static/custom.css"></head><body><main class="bd-article"><h1>live</h1>
{}</main></body></html>"""


@pytest.fixture(scope="module")
def run():
    """The book's main model at full parameters, which the tests of chapters 02 to 07 need too."""
    return load_or_train(TrainConfig(), progress=False)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    used, whole = page_data.write(run.config, folder, compared=1000)
    assert whole.distance < 1e-4
    assert whole.agreeing == whole.questions
    assert len(used.data) < (7e6 if used.bits == 16 else 13e6)
    return folder


@pytest.fixture(scope="module")
def site(exported, tmp_path_factory) -> Path:
    """The page alone, without the rest of the book around it."""
    npm_files.fetch(npm_files.ONNX_RUNTIME)
    stage, site = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "book" / "_assets", stage / "book" / "_assets")
    assert live_scripts.write(exported, stage)
    shutil.copytree(stage / "book" / "_assets", site / "_static")
    shutil.copytree(stage / live_scripts.SCRIPTS, site / "_static" / "live", dirs_exist_ok=True)
    text = (stage / "book" / "_generated" / "live.md").read_text(encoding="utf-8")
    html = text.split("```{raw} html\n")[1].split("\n```")[0]
    (site / "book").mkdir()
    (site / "book" / "live.html").write_text(PAGE.format(html), encoding="utf-8")
    return site


@pytest.fixture(scope="module")
def address(site):
    with serving(site) as url:
        yield url + "book/live.html"


@pytest.fixture(scope="module")
def data(exported) -> dict:
    return json.loads((exported / export_folder.PAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def opened_once(browser, address):
    """The open page and its faults: what it asks of other hosts, and what it complains about."""
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    own = (address.removesuffix("book/live.html"), "blob:", "data:")
    page.on("request", lambda request: request.url.startswith(own) or faults.append(request.url))
    opened(page, address)
    yield page, faults
    page.close()


@pytest.fixture
def page(opened_once):
    """The page as a link without switches leaves it, shared by the tests that don't open one."""
    page, faults = opened_once
    page.evaluate("location.hash = 'x=1&y=2'")
    result(page, 1, 2)
    page.wait_for_function("location.hash === '#x=1&y=2'")
    yield page
    assert not faults


def opened(page, address):
    page.goto(address)
    page.wait_for_function(
        "window.addlibLive?.last && !document.querySelector('#live[hidden]')", timeout=PATIENCE_MS
    )


LAST = """([x, y, off]) => {
  const last = addlibLive.last, value = (digits) => digits.reduceRight((sum, d) => 10 * sum + d, 0);
  return last && value(last.q.x) === x && value(last.q.y) === y && location.hash.includes(off)
    && !document.querySelector("[aria-invalid=true]");
}"""


def ask(page, x, y, off=""):
    """Type two numbers and wait for their result; ``off`` must be in the address."""
    page.fill("#live-x", str(x))
    page.fill("#live-y", str(y))
    return result(page, x, y, off)


def result(page, x, y, off=""):
    page.wait_for_function(LAST, arg=[x, y, off], timeout=PATIENCE_MS)
    assert page.evaluate("location.hash").startswith(f"#x={x}&y={y}")
    return page.evaluate("addlibLive.last")


def shown_mistakes(page) -> dict[int, str]:
    """Column → what the page says of its digit, for each digit that it calls wrong."""
    items = page.locator("#live-mistakes li")
    return {
        int(item.get_attribute("data-column")): item.get_attribute("data-mistake")
        for item in (items.nth(i) for i in range(items.count()))
    }


def library_mistakes(questions: Questions, digits: torch.Tensor) -> dict[int, str]:
    return {
        k: MISTAKES[code] for k, code in enumerate(mistakes(questions, digits)[0].tolist()) if code
    }


def test_fifty_questions_give_the_numbers_of_the_library(page, run):
    questions = joined(
        [
            generated_suite(TASK, 5, seed=7),
            uniform_questions(TASK, 20, torch.Generator().manual_seed(7)),
        ]
    )
    assert len(questions) == 50
    with torch.no_grad():
        probabilities = answer_logits(run.model, TASK, questions.tokens).softmax(-1)
    patterns = answer_patterns(run.model, questions)
    answers = answer(run.model, questions)
    for i, (x, y) in enumerate(page_data.pairs(questions)):
        one, found = questions[i : i + 1], ask(page, x, y)
        q = found["q"]
        assert q["answer"] == one.answer[0].tolist()
        assert q["carry"] == one.carry[0].long().tolist()
        assert q["bucket"] == [BUCKETS[code] for code in one.bucket[0].tolist()]
        assert q["longest"] == one.cascade_length.item()
        expected = [
            "MC1" if made else "MS9" if nine else ""
            for made, nine in zip(one.mc1[0], one.ms9[0], strict=True)
        ]
        assert q["makes"] == expected
        assert torch.allclose(
            torch.tensor(found["found"]["probabilities"]), probabilities[i], atol=5e-3
        )
        assert torch.allclose(torch.tensor(found["found"]["patterns"]), patterns[i], atol=5e-3)
        written = page.locator(".live-digit").all_inner_texts()
        assert written == [str(d) for d in answers.digits[i].flip(0).tolist()]
        assert shown_mistakes(page) == library_mistakes(one, answers.digits[i : i + 1])


def ablated(run, question, parts, stand_in=0):
    """The library's digits with parts out, as the page names them."""
    method = "mean" if stand_in < 2 else "zero"
    out = []
    for part in parts:
        if part.startswith("A"):
            position = TASK.answer_positions[TASK.answer_columns.index(int(part[1:]))]
            out += [Ablation("z", head, positions=(position,), method=method) for head in range(3)]
        elif part.startswith("MLP"):
            out.append(Ablation("mlp_out", method=method))
        else:
            out.append(Ablation("z", int(part[-1]), method=method))
    reference = references(TASK)[stand_in] if stand_in < 2 else None
    return answer(run.model, question, hooks=hooks(run.model, out, reference)).digits


def test_without_the_carry_head_the_carry_is_ignored(page, run, data):
    first = data["first_try"]
    part, question = (
        f"L{first['layer']}H{first['head']}",
        Questions.of(TASK, [(first["x"], first["y"])]),
    )
    page.locator("#live-try button").click()
    result(page, first["x"], first["y"])
    assert "all 6 digits are right" in page.locator("#live-says").inner_text()
    assert not shown_mistakes(page)
    page.locator(f"#live-switches [data-part={part}]").click()
    result(page, first["x"], first["y"], part)
    digits = ablated(run, question, [part])
    said = shown_mistakes(page)
    assert said == library_mistakes(question, digits)
    assert set(said.values()) == {"carry ignored"}
    written = page.locator(".live-digit").all_inner_texts()
    assert written == [str(d) for d in digits[0].flip(0).tolist()]
    column = max(said)
    assert int(written[TASK.n_digits - column]) == base_sum(question)[0, column]
    text = page.locator(f"#live-mistakes [data-column='{column}']").inner_text()
    pair = f"{question.x[0, column - 1]} + {question.y[0, column - 1]}"
    assert f"the 1 that column {column - 1} makes ({pair}) is lost" in text
    page.locator("#live-all-on").click()
    page.wait_for_function("!location.hash.includes('off')")
    assert not shown_mistakes(page)


STATES = [
    ("L0H2", 0),
    ("L0H0", 1),
    ("MLP0", 0),
    ("A3", 0),
    ("A5.L0H1", 1),
    ("A2.L0H2", 2),
    ("A0.L0H0.MLP0", 2),
]


@pytest.mark.parametrize(("off", "by"), STATES)
def test_a_link_brings_back_switches_and_numbers(page, run, off, by):
    question = generated_suite(TASK, 1, seed=11)[3:4]  # a cascade of two
    x, y = page_data.pairs(question)[0]
    page.evaluate(
        "hash => { location.hash = hash }", f"x={x}&y={y}&off={off}" + (f"&by={by}" if by else "")
    )
    found = result(page, x, y, off)
    assert page.locator("#live-x").input_value() == str(x)
    assert page.locator("#live-by").input_value() == str(by)
    out = page.locator("#live [data-part]:not(:checked)").evaluate_all(
        "boxes => boxes.map(box => box.dataset.part)"
    )
    assert sorted(out) == off.split(".")
    digits = torch.tensor([[row.index(max(row)) for row in found["found"]["probabilities"]]])
    expected = ablated(run, question, off.split("."), by)
    assert digits.tolist() == expected.tolist()
    assert shown_mistakes(page) == library_mistakes(question, expected)


def test_a_strange_link_does_no_harm(browser, address):
    page = browser.new_page()
    opened(page, f"{address}#x=12&y=34&off=L9H9.constructor.A3&by=77")
    assert result(page, 12, 34)["q"]["answer"] == [6, 4, 0, 0, 0, 0]
    assert page.url.endswith("#x=12&y=34&off=A3")
    page.evaluate("location.hash = 'x=<b>&y='")
    page.wait_for_function("document.querySelectorAll('[aria-invalid=true]').length === 2")
    assert page.locator("#live-x").input_value() == "<b>"
    page.evaluate("location.hash = 'x=99999&y=1'")
    assert result(page, 99999, 1)["q"]["longest"] == 4
    page.close()


WRONG = {
    "": "empty",
    "12a": "“a” is not a digit",
    "123456": "6 digits",
    "-4": "“-” is not a digit",
    "1 2": "not a digit",
}


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("field", ["#live-x", "#live-y"])
def test_wrong_input_gets_a_friendly_message(page, field, text):
    ask(page, 47, 85)
    page.fill(field, text)
    message = page.locator("#live-complaint")
    assert WRONG[text] in message.inner_text()
    assert page.locator(field).get_attribute("aria-invalid") == "true"
    assert page.locator("#live-says").inner_text() == ""
    assert page.locator("#live-result").get_attribute("inert") is not None
    page.fill(field, " 47 ")
    page.wait_for_function("document.getElementById('live-says').textContent")
    assert message.inner_text() == ""
    assert page.locator("#live-result").get_attribute("inert") is None


def test_all_works_from_the_keyboard(page, data):
    page.locator("#live-x").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("648")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("357")
    page.keyboard.press("Enter")  # must not send the form anywhere
    result(page, 648, 357)
    assert page.locator(".live-run").inner_text().split() == ["cascade", "of", "2"]

    def focused(name):
        return page.evaluate(f"document.activeElement.dataset.{name} ?? null")

    for part in (f"L{data['heads'][0]['layer']}H{data['heads'][0]['head']}", "A4"):
        for _ in range(40):
            if focused("part") == part:
                break
            page.keyboard.press("Tab")
        assert focused("part") == part
        page.keyboard.press("Space")
        result(page, 648, 357, part)
        assert focused("part") == part  # and the focus stays, though the table is drawn anew
    for _ in range(40):
        if focused("column") == "2":
            break
        page.keyboard.press("Shift+Tab")
    assert page.locator("#live-ten b").first.inner_text() == "A2"
    assert page.locator("#live-ten li").count() == 10


def test_each_sample_is_one_click_away(page, data, run):
    labels = [*data["samples"], "one it gets wrong"]
    assert page.locator("#live-samples button").all_inner_texts() == labels
    for label, pairs in zip(labels, [*data["samples"].values(), data["wrong"]], strict=True):
        page.get_by_role("button", name=label, exact=True).click()
        result(page, *pairs[0])
        page.get_by_role("button", name=label, exact=True).click()
        result(page, *pairs[1])
    wrong = Questions.of(TASK, data["wrong"])
    assert not answer(run.model, wrong).right.any()
    assert shown_mistakes(page)


def test_the_page_opens_from_the_disk(browser, site):
    page = browser.new_page()
    opened(page, (site / "book" / "live.html").as_uri() + "#x=47&y=85")
    assert result(page, 47, 85)["q"]["answer"] == [2, 3, 1, 0, 0, 0]
    page.close()


def test_without_an_export_or_a_runtime_the_page_says_so(exported, tmp_path):
    def note():
        return (tmp_path / "book" / "_generated" / "live.md").read_text(encoding="utf-8")

    (tmp_path / "book").mkdir()
    assert not live_scripts.write(tmp_path / "nothing", tmp_path)
    assert "has not been exported" in note()
    assert not live_scripts.write(exported, tmp_path, runtime=tmp_path / "nothing")
    assert "workflow.npm_files" in note()
    shutil.copytree(exported, tmp_path / "damaged")
    (tmp_path / "damaged" / export_folder.MODEL).write_bytes(b"half a mod")
    assert not live_scripts.write(tmp_path / "damaged", tmp_path)
    assert not (tmp_path / live_scripts.SCRIPTS).exists()


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path):
    package = tmp_path / "package.tgz"
    package.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not the pinned package"):
        npm_files.fetch(npm_files.ONNX_RUNTIME, tmp_path / "folder", package.as_uri())
    assert not (tmp_path / "folder").exists()
