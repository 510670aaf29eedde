"""Drawings show what they are given: a sum digit by digit, planted attention bar by bar."""

from xml.etree import ElementTree

import pytest
import torch

from addlib.figures.drawings import (
    CELL,
    model_picture,
    staircase_picture,
    sum_picture,
    token_picture,
)
from addlib.figures.palette import COLOURS, tinted
from addlib.tasks.addition import AdditionTask, Questions

SVG = "{http://www.w3.org/2000/svg}"


def planted(task, offset, share):
    """Attention on the pair at that offset, for each answer column that has one."""
    pairs = torch.zeros(task.n_answer, task.n_digits)
    for k in range(task.n_answer):
        if 0 <= k + offset < task.n_digits:
            pairs[k, k + offset] = share
    return pairs


def bars(svg):
    """Title of each bar → the part of its cell that it fills, and its colour."""
    root = ElementTree.fromstring(svg)
    rects = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "share"]
    return {
        rect[0].text: (float(rect.get("width")) / (CELL - 8), rect.get("fill")) for rect in rects
    }


def test_a_sum_is_written_out_with_its_carries_and_buckets():
    svg = sum_picture(Questions.of(AdditionTask(2), [(1, 2), (47, 85)]), index=1)
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[:4] == ["carry in", "first", "second", "sum"]
    assert texts[4:] == ["7", "5", "BA", "·", "2", "4", "8", "UC1", "1", "3", "1", "1"]
    fills = [rect.get("stroke") for rect in root.iter(f"{SVG}rect")]
    assert fills == [COLOURS["BA"], COLOURS["UC1"]]


@pytest.mark.parametrize("n_digits", [2, 5, 15])
def test_planted_stairs_are_drawn_where_they_are(n_digits):
    task = AdditionTask(n_digits)
    svg = staircase_picture(
        torch.stack([planted(task, -1, 0.9), planted(task, 0, 0.6)]), ["carry", "base add"], task
    )
    found = bars(svg)
    assert len(found) == 2 * task.n_answer * (n_digits + 1)
    for k in range(task.n_answer):
        for label, j, share in (("carry", k - 1, 0.9), ("base add", k, 0.6)):
            if 0 <= j < n_digits:
                width, colour = found[f"{label}, making A{k}: {share:.1%} on pair {j}"]
                assert width == pytest.approx(share, abs=1e-3)
                assert colour == tinted(COLOURS[label], round(0.35 + 0.65 * share, 3))
    root = ElementTree.fromstring(svg)
    steps = [rect.get("stroke") for rect in root.iter(f"{SVG}rect") if rect.get("class") == "step"]
    assert sorted(steps) == sorted([COLOURS["carry"]] * n_digits + [COLOURS["base add"]] * n_digits)


def test_what_goes_to_no_pair_is_drawn_elsewhere():
    task = AdditionTask(2)
    found = bars(staircase_picture(planted(task, 0, 0.75)[None], ["base add"], task))
    assert found["base add, making A0: 25.0% on elsewhere"][0] == pytest.approx(0.25, abs=1e-3)
    assert found["base add, making A2: 100.0% on elsewhere"][0] == pytest.approx(1)


def test_rows_stand_in_the_order_of_writing():
    for order, names in (("msd", ["A2", "A1", "A0"]), ("lsd", ["A0", "A1", "A2"])):
        task = AdditionTask(2, answer_order=order)
        svg = staircase_picture(planted(task, 0, 1.0)[None], ["base add"], task)
        texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
        assert [text.removeprefix("makes ") for text in texts if text.startswith("makes ")] == names
        assert texts[:3] == ["D1 D′1", "D0 D′0", "elsewhere"]


def test_tokens_stand_in_reading_order_with_an_arrow_to_each_answer_digit():
    questions = Questions.of(AdditionTask(2), [(47, 85)])
    root = ElementTree.fromstring(token_picture(questions))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0:-1:3] == list("47+85=132")
    assert texts[1:-1:3] == ["D1", "D0", "+", "D′1", "D′0", "=", "A2", "A1", "A0"]
    assert texts[2:-1:3] == [str(position) for position in range(9)]
    assert len([*root.iter(f"{SVG}path")]) == 2 * 3  # a curve and its head for each digit


def test_the_model_reads_up_to_the_digit_before_and_writes_the_next():
    questions = Questions.of(AdditionTask(3), [(147, 285)])
    root = ElementTree.fromstring(model_picture(questions, column=1))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0] == "A1 = 3"
    assert "".join(texts[1:11]) == "147+285=04"
    assert {"embedding", "attention", "MLP", "unembedding"} <= set(texts)
