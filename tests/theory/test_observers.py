"""Exact shares of an observer of few pairs, against all observers and all sums of small tasks."""

import itertools
from fractions import Fraction

import pytest
import torch

from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import carry_twins, class_probabilities
from addlib.tasks.subtasks import base_sum, look_back
from addlib.theory.observers import share_right


def every_question(task):
    return Questions.of(task, list(itertools.product(range(task.base**task.n_digits), repeat=2)))


def sights(questions, below, at_top, written):
    """A number for all that an observer sees when it writes each digit: sums of pairs, in order."""
    task = questions.task
    codes = []
    for k in range(task.n_answer):
        seen = at_top if k == task.n_digits else below
        columns = range(max(k - seen, 0), min(k + 1, task.n_digits))
        sums = [questions.x[:, column] + questions.y[:, column] for column in columns]
        if written and k < task.n_digits:
            sums.append(questions.answer[:, k + 1])
        code = torch.zeros(len(questions), dtype=torch.int64)
        for value in sums:
            code = code * 2 * task.base + value
        codes.append(code.unique(return_inverse=True)[1])
    return codes


def best_of_all_observers(task, below, at_top, written=False):
    """The most sums that any rule from what is seen to carry or no carry gets right."""
    questions = every_question(task)
    undecided = []  # for each guess that is open: the sums where it comes up, and the truth there
    sure = torch.ones(len(questions), dtype=torch.bool)
    for k, code in enumerate(sights(questions, below, at_top, written)):
        for sight in range(int(code.max()) + 1):
            here = code == sight
            if questions.carry[here, k].unique().numel() == 2:
                undecided.append((here, questions.carry[:, k]))
    assert len(undecided) <= 16, "too many rules to try them all"
    most = 0
    for rule in itertools.product((False, True), repeat=len(undecided)):
        right = sure.clone()
        for guess, (here, carry) in zip(rule, undecided, strict=True):
            right &= ~here | (carry == guess)
        most = max(most, int(right.sum()))
    return Fraction(most, len(questions))


@pytest.mark.parametrize(
    ("n_digits", "base", "below", "at_top"),
    [
        (2, 2, 0, 0),
        (2, 2, 1, 1),
        (2, 3, 0, 1),
        (2, 3, 1, 1),
        (2, 4, 1, 1),
        (2, 5, 1, 1),
        (3, 2, 1, 1),
        (3, 2, 1, 2),
        (3, 2, 2, 2),
        (3, 3, 1, 2),
        (3, 3, 2, 2),
        (3, 4, 2, 2),
        (3, 4, 2, 3),
        (3, 5, 2, 2),
        (3, 5, 3, 3),
    ],
)
def test_no_observer_gets_more_right_and_the_best_one_gets_as_many(n_digits, base, below, at_top):
    task = AdditionTask(n_digits, base)
    assert best_of_all_observers(task, below, at_top) == share_right(task, below, at_top=at_top)


@pytest.mark.parametrize(("n_digits", "below", "at_top"), [(2, 0, 0), (2, 1, 1), (3, 2, 2)])
def test_the_digit_written_before_helps_no_observer(n_digits, below, at_top):
    task = AdditionTask(n_digits, 2)
    best = best_of_all_observers(task, below, at_top, written=True)
    assert best == share_right(task, below, at_top=at_top)


@pytest.mark.parametrize("guess", [False, True])
@pytest.mark.parametrize(("n_digits", "base"), [(2, 2), (2, 5), (3, 2), (3, 3), (3, 5), (4, 3)])
def test_constant_guesses_get_the_exact_share_of_all_sums(n_digits, base, guess):
    task = AdditionTask(n_digits, base)
    questions = every_question(task)
    for below in range(n_digits + 1):
        right = (look_back(questions, below, guess) == questions.answer).all(1)
        assert share_right(task, below, guess) == Fraction(int(right.sum()), len(questions))


def test_known_shares_of_five_digits():
    task = AdditionTask(5)
    lengths = class_probabilities(task)[1]
    assert share_right(task, 2) == lengths[0] + lengths[1] == Fraction("0.9865")
    assert share_right(task, 2, guess=True) == Fraction("0.9855")
    assert share_right(task, 2, at_top=3) == Fraction("0.991")
    assert share_right(task, 5) == share_right(task, 5, guess=True) == 1


@pytest.mark.parametrize("guess", [False, True])
def test_cascades_show_the_guess_and_twins_the_sight(guess):
    """An observer of three pairs gets all long cascades or none, and half of the twins' digits."""
    cascades, twins = carry_twins(AdditionTask(5), 4, 3, 500, torch.Generator().manual_seed(0))
    share = []
    for questions, carry in ((cascades, True), (twins, False)):
        written = look_back(questions, 2, guess)[:, 4]
        assert (questions.carry[:, 4] == carry).all()
        share.append((written == questions.answer[:, 4]).double().mean().item())
    assert share == ([1, 0] if guess else [0, 1])


def test_a_guess_by_hand():
    questions = Questions.of(AdditionTask(3), [(47, 52), (47, 58)])
    assert look_back(questions, 1).tolist() == [[9, 9, 0, 0], [5, 0, 0, 0]]
    assert look_back(questions, 1, guess=True).tolist() == [[9, 9, 1, 0], [5, 0, 1, 0]]
    no_carry = Questions.of(AdditionTask(3, carry=False), [(47, 52)])
    assert torch.equal(look_back(no_carry, 1, guess=True), base_sum(no_carry))


@pytest.mark.parametrize(
    ("task", "below", "at_top", "message"),
    [
        (AdditionTask(3), -1, None, "below = -1"),
        (AdditionTask(3), 1, 3, "at_top = 3"),
        (AdditionTask(3), 1, 0, "at_top = 0"),
        (AdditionTask(3, carry=False), 1, None, "must have carries"),
        (AdditionTask(3, answer_order="lsd"), 1, None, "written from the top"),
    ],
)
def test_what_is_no_observer_is_refused(task, below, at_top, message):
    with pytest.raises(ValueError, match=message):
        share_right(task, below, at_top=at_top)
