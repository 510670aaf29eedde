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


@settings(max_examples=60)
@given(st.data())
def test_tokens_decode_to_what_was_encoded(data):
    task = data.draw(tasks)
    most = task.base**task.n_digits - 1
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, most), st.integers(0, most)), min_size=1, max_size=5)
    )
    questions = Questions.of(task, pairs)
    x, y, answer = task.decode(questions.tokens)
    assert list(zip(task.value(x).tolist(), task.value(y).tolist(), strict=True)) == pairs
    assert torch.equal(answer, questions.answer)
    assert questions.tokens.shape[1] == task.n_ctx == len(task.token_names)


def test_a_known_question():
    task = AdditionTask()
    tokens = task.question(47, 85)
    assert task.text(tokens[0]) == "00047+00085=000132"
    assert tokens[0].tolist() == [0, 0, 0, 4, 7, 10, 0, 0, 0, 8, 5, 11, 0, 0, 0, 1, 3, 2]
    questions = Questions.of(task, [(47, 85)])
    assert questions.carry[0].int().tolist() == [0, 1, 1, 0, 0, 0]
    assert list(task.answer_positions) == [11, 12, 13, 14, 15, 16]
    assert [task.token_names[p + 1] for p in task.answer_positions] == [
        f"A{i}" for i in task.answer_columns
    ]
    assert (
        AdditionTask(answer_order="lsd").text(AdditionTask(answer_order="lsd").question(47, 85)[0])
        == "00047+00085=231000"
    )


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
        ({"n_digits": 19}, "up to n_digits = 18"),
        ({"n_digits": 16, "base": 16}, "up to n_digits = 15"),
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
    with pytest.raises(ValueError, match="not questions"):
        AdditionTask().decode(torch.zeros(1, 18, dtype=torch.int64))
