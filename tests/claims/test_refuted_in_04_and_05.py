"""Claims on carries can fail: observers of known sight refute what `refuted_by` says they would."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from addlib.analysis.roles import pair_attention
from addlib.stats import bootstrap_of
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import above_cascade, carry_twins, cascade_questions, without_carry
from addlib.tasks.subtasks import look_back
from verdicts import verdict

TASK = AdditionTask(5)

ALL = 5
"""Pairs below a digit that see every carry."""


def asked(length: int, count: int = 400) -> Questions:
    return cascade_questions(TASK, length, count, torch.Generator().manual_seed(length))


def right(questions: Questions, below: int, guess: bool) -> Tensor:
    """Which digits an observer gets right."""
    return look_back(questions, below, guess) == questions.answer


def sight_at(k: int, down: int, below: int, guess: bool) -> float:
    """Share of an observer's digits A_k that are right, in sums and their twins together."""
    both = carry_twins(TASK, k, down, 200, torch.Generator().manual_seed(0))
    return torch.stack([right(part, below, guess)[:, k] for part in both]).double().mean().item()


def sight_of_length(length: int, below: int, guess: bool) -> float:
    """The same of the digits just above cascades of one length."""
    cascades = asked(length)
    above = above_cascade(cascades)[:, None]
    both = (cascades, without_carry(cascades))
    shares = [right(part, below, guess).gather(1, above).double().mean() for part in both]
    return float(sum(shares) / 2)


@pytest.mark.parametrize("guess", [False, True])
def test_sight_decides_and_the_guess_does_not(guess: bool) -> None:
    """An observer of three pairs has the second pair in sight, the third not; others differ."""
    at_second = {below: min(sight_at(k, 2, below, guess) for k in (3, 4, 5)) for below in (1, 2)}
    assert at_second == {1: 0.5, 2: 1.0}
    assert verdict("04.second-pair-in-sight", at_second[2]) == "holds"
    assert verdict("04.second-pair-in-sight", at_second[1]) == "fails"
    at_third = {below: sight_at(4, 3, below, guess) for below in (2, 3)}
    assert at_third == {2: 0.5, 3: 1.0}
    assert verdict("04.third-pair-out-of-sight", at_third[2]) == "holds"
    assert verdict("04.third-pair-out-of-sight", at_third[3]) == "fails"


def test_another_guess_is_no_farther_sight() -> None:
    """From no long cascade to all of them, and nothing more is seen."""
    before, after = (sight_of_length(2, 2, guess) for guess in (False, True))
    assert before == after == 0.5
    assert verdict("04.sight-still-grows", after - before) == "fails"
    assert verdict("04.sight-still-grows", sight_of_length(2, ALL, False) - before) == "holds"


def test_long_cascades_are_all_right_or_all_wrong_by_the_guess() -> None:
    shares = [right(asked(2), 2, guess).all(1).double().mean().item() for guess in (False, True)]
    assert shares == [0, 1]
    assert [verdict("04.a-quarter-of-cascades", share) for share in shares] == ["fails"] * 2


def test_two_pairs_and_no_carry_fail_at_simple_us9() -> None:
    share = right(asked(1), 1, False).all(1).double().mean().item()
    assert share == 0
    assert verdict("04.simple-us9-solved", share) == "fails"


def test_twins_get_the_same_digit_from_who_does_not_see_the_pair() -> None:
    """The second of the twins is right where it gets another digit."""
    for below, expected in ((2, "holds"), (ALL, "fails")):
        sight = sight_of_length(3, below, False)
        assert verdict("04.blind-to-the-far-pair", 2 * (1 - sight)) == expected


def test_longer_cascades_that_are_right_more_often() -> None:
    """Who guesses "carry" loses random sums of short cascades, and none of the long ones."""
    accuracy = [right(asked(length, 4000), 2, True).all(1).double().mean() for length in (1, 2)]
    assert verdict("04.accuracy-falls-with-length", float(accuracy[0] - accuracy[1])) == "fails"


@pytest.mark.parametrize(
    ("wrong", "expected"), [(0, "inconclusive"), (3, "inconclusive"), (4, "fails"), (9, "fails")]
)
def test_a_million_sums_can_refute_one_in_a_million_and_not_bear_it_out(
    wrong: int, expected: str
) -> None:
    rate = binomtest(wrong, 1_000_000).proportion_ci(0.95, method="exact")
    ends = (1e6 * rate.low, 1e6 * rate.high)
    assert verdict("04.two-layers-in-a-million", wrong, ends) == expected


def staircases() -> Tensor:
    """Three heads that give the own, the next and the second pair all of their attention."""
    pattern = torch.zeros(3, TASK.n_answer, TASK.n_ctx)
    for down in range(3):
        for k in range(down, TASK.n_digits + 1):
            if k - down < TASK.n_digits:
                pattern[down, k, TASK.n_digits - 1 - (k - down)] = 1
    return pattern


def least_looked_at(pattern: Tensor) -> float:
    """Smallest over digits and pairs of the most attention that one head gives the pair."""
    pairs = pair_attention(pattern, TASK)
    stairs = [pairs.diagonal(-down, -2, -1) for down in range(3)]
    of_pairs = torch.cat(stairs, -1)[None]
    return bootstrap_of(lambda mean: mean.amax(0).min(), of_pairs, draws=10)[0]


def test_heads_may_change_places_but_not_leave_a_pair() -> None:
    pattern = staircases()
    pattern[[1, 2], 5] = pattern[[2, 1], 5]  # as in the trained model
    assert verdict("05.each-pair-has-its-head", least_looked_at(pattern)) == "holds"
    at_next = pair_attention(pattern, TASK)[1].diagonal(-1)
    assert verdict("05.carry-share-below-top", at_next[:-1].mean().item()) == "holds"
    assert verdict("05.carry-at-every-digit", at_next.min().item()) == "fails"
    pattern[2, 3] = 0  # nobody looks at the second pair of A3
    assert verdict("05.each-pair-has-its-head", least_looked_at(pattern)) == "fails"
