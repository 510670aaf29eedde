"""The task against Python's own integers."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from addlib.tasks.addition import AdditionTask, Questions


def python_digits(value, base, count):
    return [value // base**i % base for i in range(count)]


tasks = st.builds(
    AdditionTask,
    n_digits=st.sampled_from([1, 2, 5, 10, 15]),
    base=st.integers(2, 16),
    carry=st.booleans(),
    answer_order=st.sampled_from(["msd", "lsd"]),
)


@settings(max_examples=150)
@given(st.data())
def test_sums_carries_and_labels_agree_with_python_integers(data):
    task = data.draw(tasks)
    most = task.base**task.n_digits - 1
    x, y = data.draw(st.integers(0, most)), data.draw(st.integers(0, most))
    questions = Questions.of(task, [(x, y)])
    xs, ys = python_digits(x, task.base, task.n_digits), python_digits(y, task.base, task.n_digits)
    carry = [
        (x % task.base**i + y % task.base**i) // task.base**i if task.carry else 0
        for i in range(task.n_digits + 1)
    ]
    if task.carry:
        answer = python_digits(x + y, task.base, task.n_digits + 1)
    else:
        answer = [(a + b) % task.base for a, b in zip(xs, ys, strict=True)] + [0]
    assert questions.answer[0].tolist() == answer
    assert questions.carry[0].int().tolist() == carry
    nine = [a + b == task.base - 1 for a, b in zip(xs, ys, strict=True)]
    bucket = [(2 if s else 1) if c else 0 for s, c in zip(nine, carry, strict=False)]
    assert questions.bucket[0].tolist() == bucket
    runs = [
        len(list(group)) for is_us9, group in itertools.groupby(bucket, lambda b: b == 2) if is_us9
    ]
    assert questions.cascade_length.item() == max(runs, default=0)
    assert questions.question_class.item() == (2 if 2 in bucket else 1 if any(carry) else 0)
    if task.carry:
        assert torch.equal(questions.mc1 | questions.us9, questions.carry[:, 1:])


def written(value, base, count):
    """A number in a base, top digit first."""
    return "".join("0123456789abcdef"[digit] for digit in python_digits(value, base, count)[::-1])


@settings(max_examples=60)
@given(st.data())
def test_tokens_spell_the_question_and_its_answer(data):
    task = data.draw(tasks)
    most = task.base**task.n_digits - 1
    x, y = data.draw(st.integers(0, most)), data.draw(st.integers(0, most))
    questions = Questions.of(task, [(x, y)])
    assert [int(task.value(side)) for side in (questions.x, questions.y)] == [x, y]
    assert questions.tokens.shape[1] == task.n_ctx == len(task.token_names)
    asked, _, told = task.text(questions.tokens[0]).partition("=")
    n = task.n_digits
    assert asked == f"{written(x, task.base, n)}+{written(y, task.base, n)}"
    top_first = told if task.answer_order == "msd" else told[::-1]
    answer = int(task.value(questions.answer))
    assert top_first == written(answer, task.base, n + 1)
    assert answer == x + y or not task.carry


def test_a_known_question():
    task = AdditionTask()
    questions = Questions.of(task, [(47, 85)])
    tokens = questions.tokens[0]
    assert task.text(tokens) == "00047+00085=000132"
    assert tokens.tolist() == [0, 0, 0, 4, 7, 10, 0, 0, 0, 8, 5, 11, 0, 0, 0, 1, 3, 2]
    assert questions.carry[0].int().tolist() == [0, 1, 1, 0, 0, 0]
    assert list(task.answer_positions) == [11, 12, 13, 14, 15, 16]
    assert [task.token_names[p + 1] for p in task.answer_positions] == task.answer_names
    assert task.answer_names == ["A5", "A4", "A3", "A2", "A1", "A0"]
    units_first = AdditionTask(answer_order="lsd")
    assert units_first.text(Questions.of(units_first, [(47, 85)]).tokens[0]) == "00047+00085=231000"


@pytest.mark.parametrize(
    ("pair", "length", "name"),
    [
        ((12345, 33333), 0, 0),
        ((15, 45), 0, 1),
        ((15, 85), 1, 2),
        ((555, 445), 2, 2),
        ((1234, 8766), 3, 2),
        ((44445, 55555), 4, 2),
    ],
)
def test_classes_of_known_questions(pair, length, name):
    questions = Questions.of(AdditionTask(), [pair])
    assert questions.cascade_length.item() == length
    assert questions.question_class.item() == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_digits": 0}, "n_digits = 0: must be"),
        ({"n_digits": 2.0}, "n_digits = 2.0: must be"),
        ({"n_digits": 19}, "n_digits = 19: must be a whole number from 1 to 18"),
        ({"n_digits": 63, "base": 2}, "from 1 to 62"),
        ({"n_digits": 16, "base": 16}, "from 1 to 15"),
        ({"base": 1}, "base = 1: must be a whole number from 2 to 16"),
        ({"base": 17}, "base = 17"),
        ({"carry": "no"}, "carry = 'no'"),
        ({"answer_order": "up"}, "answer_order = 'up': must be 'msd' or 'lsd'"),
    ],
)
def test_bad_tasks_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdditionTask(**arguments)


def test_operands_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="operand 100000: must be from 0 to 99999"):
        Questions.of(AdditionTask(), [(1, 2), (100000, 5)])
    with pytest.raises(ValueError, match="operand -1"):
        Questions.of(AdditionTask(), [(-1, 2)])


@pytest.mark.parametrize(("n_digits", "base"), [(18, 10), (15, 16), (62, 2)])
def test_the_largest_sum_of_the_longest_numbers_is_exact(n_digits, base):
    most = base**n_digits - 1
    questions = Questions.of(AdditionTask(n_digits, base), [(most, most)])
    assert int(questions.task.value(questions.answer)) == 2 * most


def test_sums_are_read_as_they_are_written():
    task = AdditionTask(5)
    read = Questions.read(task, ["12345+55555=67900", " 888 + 11111 "])
    asked = Questions.of(task, [(12345, 55555), (888, 11111)])
    assert read.tokens.tolist() == asked.tokens.tolist()
    assert task.text(read.tokens[0]) == "12345+55555=067900"
    assert Questions.read(task, [task.text(row) for row in asked.tokens]).x.equal(asked.x)
    for text, complaint in (
        ("12345", "is not a sum"),
        ("1+2+3", "is not a sum"),
        ("1+2=4", "1 \\+ 2 is 3"),
        ("123456+1", "too many digits|123456"),
    ):
        with pytest.raises(ValueError, match=complaint):
            Questions.read(task, [text])
