"""Rivals of the plane on models whose rule is known."""

import torch

from addlib.analysis.carry_plane import CarrySample
from addlib.analysis.carry_rivals import (
    boosted_trees,
    curved_boundary,
    guess_by_own_sum,
    observers,
)
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions
from addlib.tasks.subtasks import look_back

TASK = AdditionTask(4)
K = 3


def sample_of(rule, seed, count=3000):
    """A sample in which the model writes one more where the rule says so."""
    questions = nine_rich_questions(TASK, count, torch.Generator().manual_seed(seed))
    more = rule(questions)
    own = questions.x[:, K] + questions.y[:, K]
    stream = torch.stack([questions.x[:, 0] - 4.5, questions.y[:, 1] - 4.5], 1)
    return CarrySample(questions, K, stream.float(), (own + more) % TASK.base)


def test_observers_write_what_an_algorithm_of_so_many_pairs_writes():
    sample = sample_of(lambda questions: questions.carry[:, K], 0)
    said = observers(sample)
    for name, depth, guess in (
        ("two pairs", 1, False),
        ("three, no carry", 2, False),
        ("three, carry", 2, True),
    ):
        expected = look_back(sample.questions, depth, guess)[:, K]
        assert torch.equal((sample.own + said[name]) % TASK.base, expected), name
    assert torch.equal(said["the truth"], sample.questions.carry[:, K])


def test_the_guess_by_own_sum_is_found():
    def rule(questions):
        exact = look_back(questions, 2)[:, K] != (questions.x + questions.y)[:, K] % TASK.base
        guess = look_back(questions, 2, True)[:, K] != (questions.x + questions.y)[:, K] % TASK.base
        return torch.where((questions.x + questions.y)[:, K] > 6, guess, exact)

    fitted, sample = sample_of(rule, 0), sample_of(rule, 1)
    said = guess_by_own_sum(fitted, sample)
    assert (said == sample.more).double().mean() > 0.99


def test_a_curved_boundary_is_found_in_its_directions_and_not_in_others():
    def rule(questions):
        return (questions.x[:, 0] - 4.5) ** 2 + (questions.y[:, 1] - 4.5) ** 2 < 12

    fitted, sample = sample_of(rule, 0), sample_of(rule, 1)
    both = curved_boundary(fitted, sample, torch.eye(2))
    one = curved_boundary(fitted, sample, torch.eye(2)[:, :1])
    assert (both == sample.more).double().mean() > 0.97
    assert (one == sample.more).double().mean() < 0.9


def test_boosted_trees_read_the_digits():
    def rule(questions):
        return (questions.x[:, 0] > 6) ^ (questions.y[:, 2] > 4)

    said = boosted_trees(sample_of(rule, 0), sample_of(rule, 1), seed=0, rounds=50)
    assert (said == sample_of(rule, 1).more).double().mean() > 0.99


def test_a_model_that_always_says_the_same_needs_no_fit():
    def never(questions):
        return torch.zeros(len(questions), dtype=torch.bool)

    fitted, sample = sample_of(never, 0), sample_of(never, 1)
    assert not boosted_trees(fitted, sample, seed=0).any()
    assert not curved_boundary(fitted, sample, torch.eye(2)).any()


def test_samples_know_where_the_model_is_wrong():
    questions = Questions.of(TASK, [(4540, 1459), (4540, 1460)])
    sample = CarrySample(questions, K, None, torch.tensor([5, 5]))
    assert sample.own.tolist() == [5, 5]
    assert sample.in_centre.tolist() == [True, False]
    assert sample.wrong.tolist() == [False, True]
    assert not sample.more.any()
