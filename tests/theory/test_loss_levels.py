"""Exact losses against the conditional entropies of all questions, and long sums against longer
ones.
"""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from addlib.tasks.addition import AdditionTask, Questions
from addlib.theory import loss_levels
from addlib.theory.loss_levels import (
    Knowledge,
    any_digit,
    carry_belief,
    entropy,
    expected_loss,
    loss_given_total,
    second_digit,
    uniform_guess,
)

SMALL = [(1, 2), (1, 3), (1, 5), (2, 2), (2, 3), (2, 4), (2, 5), (3, 3)]


def every_question(task):
    return Questions.of(task, list(itertools.product(range(task.base**task.n_digits), repeat=2)))


def enumerated(questions, k, knowledge):
    """Conditional entropy of A_k given what is known, counted over all questions."""
    task = questions.task
    kinds = {k: knowledge.own} | {k - 1 - j: kind for j, kind in enumerate(knowledge.below)}
    known = [questions.x[:, column] for column, kind in kinds.items() if kind != "none"]
    known += [questions.y[:, column] for column, kind in kinds.items() if kind == "pair"]
    if knowledge.visible:
        known += questions.answer[
            :, slice(k + 1, None) if task.answer_order == "msd" else slice(k)
        ].unbind(1)
    code = torch.zeros(len(questions), dtype=torch.int64)
    for digit in [*known, questions.answer[:, k]]:
        code = code * task.base + digit
    counts = (
        torch.bincount(code, minlength=task.base ** (len(known) + 1)).view(-1, task.base).double()
    )
    return float(
        (torch.special.entr(counts).sum() - torch.special.entr(counts.sum(1)).sum())
        / len(questions)
    )


def every_knowledge(task, k):
    for own in ("none", "one", "pair") if k < task.n_digits else ("none",):
        for depth in range(k + 1):
            for below in itertools.product(loss_levels.KINDS, repeat=depth):
                for visible in (True, False):
                    yield Knowledge(own, below, visible)


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("order", ["msd", "lsd"])
@pytest.mark.parametrize(("n_digits", "base"), SMALL)
def test_every_state_equals_enumeration(n_digits, base, order, carry):
    task = AdditionTask(n_digits, base, carry, order)
    questions = every_question(task)
    for k in range(n_digits + 1):
        for knowledge in every_knowledge(task, k):
            expected = enumerated(questions, k, knowledge)
            assert expected_loss(task, k, knowledge) == pytest.approx(expected, abs=1e-12), (
                k,
                knowledge,
            )


@pytest.mark.parametrize("order", ["msd", "lsd"])
def test_known_levels(order):
    task = AdditionTask(5, answer_order=order)
    assert uniform_guess(task) == math.log(12)
    assert any_digit(task) == math.log(10)
    for k in range(5):
        assert expected_loss(task, k, Knowledge("pair", ("pair",) * k)) == 0
        assert expected_loss(task, k, Knowledge(visible=False)) == pytest.approx(
            math.log(10), abs=1e-12
        )
    assert expected_loss(task, 5, Knowledge("none", ("pair",) * 5)) == 0
    p_top = Fraction(10**5 - 1, 2 * 10**5)  # of a carry out of all five columns
    assert expected_loss(task, 5, Knowledge(visible=False)) == pytest.approx(
        float(entropy(float(p_top))), abs=1e-14
    )
    # One pair down the carry is unknown at a sum of 9 only, in a tenth of the cases.
    two_below = expected_loss(task, 2, Knowledge("pair", ("pair",), visible=False))
    assert two_below == pytest.approx(float(entropy(0.45)) / 10, abs=1e-14)


def test_visible_digits_help_the_second_from_top_digit_only():
    task = AdditionTask(5)
    told = [any_digit(task) - expected_loss(task, k, Knowledge()) for k in range(5)]
    assert told[4] == pytest.approx(0.1893, abs=5e-5)
    assert max(told[:4]) < 0.004
    assert all(
        expected_loss(AdditionTask(5, answer_order="lsd"), k, Knowledge()) == math.log(10)
        for k in range(5)
    )


def test_the_carry_belief_is_exact_and_its_mean_does_not_depend_on_what_is_known():
    for order in ("msd", "lsd"):
        task = AdditionTask(4, 3, answer_order=order)
        share = every_question(task).carry[:, 3].double().mean().item()
        for below in itertools.product(loss_levels.KINDS, repeat=2):
            belief = carry_belief(task, 3, Knowledge("pair", below))
            assert sum(belief.parts.values()) == 1
            assert float(belief.mean) == pytest.approx(share, abs=1e-15)
            assert belief.mean == sum(p * weight for p, weight in belief.values())


@pytest.mark.parametrize("order", ["msd", "lsd"])
def test_long_sums_equal_sums_of_many_more_terms(order, monkeypatch):
    task = AdditionTask(6, answer_order=order)
    states = [
        (k, knowledge)
        for k in (0, 1, 3, 5)
        for knowledge in (Knowledge(), Knowledge("one"), Knowledge("pair"))
    ]
    states += [
        (6, Knowledge()),
        (6, Knowledge("none", ("one",))),
        (4, Knowledge("pair", ("pair",))),
    ]
    short = [expected_loss(task, *state) for state in states]
    monkeypatch.setattr(loss_levels, "TERMS", 10**7)
    assert short == pytest.approx([expected_loss(task, *state) for state in states], abs=1e-12)


def test_fifteen_digits_take_a_second():
    started = time.process_time()
    for order in ("msd", "lsd"):
        task = AdditionTask(15, answer_order=order)
        for k in range(15):
            for depth in range(min(k, 2) + 1):
                assert 0 <= expected_loss(task, k, Knowledge("pair", ("pair",) * depth)) < 0.7
            assert expected_loss(task, k, Knowledge("one")) > 1.8
            assert expected_loss(task, k, Knowledge()) > 2.1
            assert expected_loss(task, k, Knowledge(visible=False)) == pytest.approx(
                math.log(10), abs=1e-12
            )
        assert expected_loss(task, 15, Knowledge(visible=False)) == pytest.approx(
            math.log(2), abs=1e-12
        )
    assert time.process_time() - started < 3  # about 1 s on a quiet machine


@pytest.mark.parametrize("base", [2, 3, 5])
def test_a_total_and_a_written_digit_tell_what_all_questions_say(base):
    questions = every_question(AdditionTask(2, base))
    total = (questions.x + questions.y).sum(1)
    counts = np.zeros((int(total.max()) + 1, 2))
    np.add.at(counts, (total.numpy(), questions.answer[:, 2].numpy()), 1 / len(questions))
    known = counts.sum(1, keepdims=True) + (counts.sum(1, keepdims=True) == 0)
    exact = (counts.sum(1) * entropy((counts / known)[:, 1])).sum()
    assert loss_given_total(questions.task) == pytest.approx(exact, abs=1e-12)

    for top, row in enumerate(second_digit(questions.task)):
        digits = questions.answer[questions.answer[:, 2] == top, 1]
        shares = torch.bincount(digits, minlength=base).double() / len(digits)
        assert row == pytest.approx(shares.numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "knowledge", "message"),
    [
        (-1, Knowledge(), "A0 to A2"),
        (3, Knowledge(), "A0 to A2"),
        (0, Knowledge("pair", ("pair",)), "none below the units"),
        (1, Knowledge("none", ("one", "one")), "1 columns below"),
        (2, Knowledge("pair"), "no pair of its own"),
        (2, Knowledge("one"), "no pair of its own"),
    ],
)
def test_states_that_make_no_sense_are_refused(k, knowledge, message):
    with pytest.raises(ValueError, match=message):
        expected_loss(AdditionTask(2), k, knowledge)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="'both': what is known"):
        Knowledge("both")
    with pytest.raises(ValueError, match="'two': what is known"):
        Knowledge("pair", ("pair", "two"))
    with pytest.raises(ValueError, match="over 1024 values"):
        expected_loss(AdditionTask(7), 5, Knowledge("pair", ("one",) * 4))
    assert np.isfinite(expected_loss(AdditionTask(7), 7, Knowledge("none", ("one",) * 4)))
