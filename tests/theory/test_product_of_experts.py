"""The best product of experts against brute force, a condition of optimality, and the two provable
cases.
"""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from addlib.tasks.addition import AdditionTask, Questions
from addlib.theory import product_of_experts
from addlib.theory.loss_levels import Knowledge, expected_loss
from addlib.theory.product_of_experts import best_product, expert_loss


def test_two_by_two_equals_a_search_over_every_pair_of_experts():
    """With c = 0, 1 an expert is one log-odds per digit; one of the four is redundant."""
    joint = np.random.default_rng(0).dirichlet(np.full(8, 0.7)).reshape(2, 2, 2)

    def loss(odds):
        sums = np.array([[odds[0], odds[0] + odds[1]], [odds[2], odds[2] + odds[1]]])  # (a, b)
        return (
            joint[:, :, 1] * np.logaddexp(0, -sums) + joint[:, :, 0] * np.logaddexp(0, sums)
        ).sum()

    starts = itertools.product((-2.0, 2.0), repeat=3)
    found = min(minimize(loss, start, method="Nelder-Mead", options=dict(xatol=1e-9, fatol=1e-12, maxiter=4000)).fun
                for start in starts)  # fmt: skip
    assert best_product(joint) == pytest.approx(found, abs=1e-9)
    assert best_product(3 * joint) == pytest.approx(3 * found, abs=1e-9)


def test_experts_that_suffice_reach_the_conditional_entropy():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 1, 3)) + rng.normal(size=(1, 5, 3))
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True) / 20
    assert best_product(p) == pytest.approx(-(p * np.log(20 * p)).sum(), abs=1e-9)


def test_exclusive_or_cannot_be_combined_from_two_single_operands():
    joint = np.zeros((2, 2, 2))
    joint[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]] = 0.25
    assert best_product(joint) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("base", [2, 3, 10])
def test_digits_lie_between_the_pair_and_one_operand(base):
    task = AdditionTask(3, base)
    for k in range(3):
        pair, one = (expected_loss(task, k, Knowledge(own)) for own in ("pair", "one"))
        assert pair - 1e-8 <= expert_loss(task, k) <= one
    assert expert_loss(task, 2) == pytest.approx(
        expected_loss(task, 2, Knowledge("pair")), abs=1e-7
    )
    assert expert_loss(task, 2, ("pair", "pair")) == pytest.approx(0, abs=1e-6)
    assert expert_loss(task, 1) > expected_loss(task, 1, Knowledge("pair")) + 1e-4


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_without_a_word_about_the_carry_out_nothing_is_learned(p):
    free, carried = product_of_experts._by_carry_out(5, p)
    assert best_product(free + carried) == pytest.approx(math.log(5), abs=1e-12)
    for task in (AdditionTask(3, 5, answer_order="lsd"), AdditionTask(3, 5, carry=False)):
        assert expert_loss(task, 1) == math.log(5)
    assert expert_loss(AdditionTask(3, 5), 1, visible=False) == math.log(5)


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("below", [(), ("pair",)])
def test_digits_equal_separate_solutions_for_every_visible_context(k, below):
    """All questions of a task, split by what is known besides the own pair, each part solved by
    itself.
    """
    task = AdditionTask(3, 3)
    if len(below) > k:
        return
    questions = Questions.of(task, list(itertools.product(range(27), repeat=2)))
    context = [
        *questions.answer[:, k + 1 :].unbind(1),
        *(d[:, k - 1] for d in (questions.x, questions.y) if below),
    ]
    parts = {}
    for *known, a, b, c in zip(
        *context, questions.x[:, k], questions.y[:, k], questions.answer[:, k], strict=True
    ):
        parts.setdefault(tuple(map(int, known)), np.zeros((3, 3, 3)))[a, b, c] += 1 / len(questions)
    assert expert_loss(task, k, below) == pytest.approx(
        sum(map(best_product, parts.values())), abs=1e-7
    )


def test_many_visible_values_are_summed_as_if_one_by_one(monkeypatch):
    short = expert_loss(AdditionTask(4, 5), 1)
    monkeypatch.setattr(product_of_experts, "ONE_BY_ONE", 25)
    assert short == pytest.approx(expert_loss(AdditionTask(4, 5), 1), abs=1e-7)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="A0 to A3"):
        expert_loss(AdditionTask(3), 4)
    with pytest.raises(ValueError, match="A3 has no pair"):
        expert_loss(AdditionTask(3), 3)
    with pytest.raises(ValueError, match="none below the units"):
        expert_loss(AdditionTask(3), 0, ("pair",))
