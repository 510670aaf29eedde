"""The suites: known classes of known pairs, every kind in a generated one, refusals that name what
was given.
"""

import pytest
import torch

from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import (
    above_cascade,
    carry_twins,
    cascade_questions,
    class_name,
    generated_suite,
    joined,
    published_suite,
    without_carry,
)

# 0 + 0 in the units: the carry is made by 4 + 6, and only 3 + 6 and 3 + 6 are left
BY_HAND = {
    (12345, 33333): (0, 0),
    (15, 45): (1, 0),
    (40035, 40049): (1, 0),
    (55, 45): (2, 1),
    (24533, 25933): (2, 1),
    (10880, 41127): (2, 1),
    (555, 445): (2, 2),
    (3340, 6660): (
        2,
        2,
    ),
    (8880, 1120): (2, 2),
    (5555, 4445): (2, 3),
    (44445, 55555): (2, 4),
}


def pairs_of(questions: Questions) -> list[tuple[int, int]]:
    task = questions.task
    return list(
        zip(task.value(questions.x).tolist(), task.value(questions.y).tolist(), strict=True)
    )


def test_published_pairs_have_the_classes_found_by_hand():
    suite = published_suite(AdditionTask(5))
    found = dict(
        zip(
            pairs_of(suite),
            zip(suite.question_class.tolist(), suite.cascade_length.tolist(), strict=True),
            strict=True,
        )
    )
    assert len(found) == 43
    assert {pair: found[pair] for pair in BY_HAND} == BY_HAND
    assert torch.bincount(suite.cascade_length).tolist() == [10, 17, 8, 3, 5]


def test_published_pairs_keep_their_classes_with_more_digits():
    five, nine = published_suite(AdditionTask(5)), published_suite(AdditionTask(9))
    assert pairs_of(five) == pairs_of(nine)
    assert torch.equal(five.cascade_length, nine.cascade_length)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            AdditionTask(4),
            "n_digits=4, .*: the published pairs need base 10, carrying and 5 digits",
        ),
        (AdditionTask(5, base=8), "base=8"),
        (AdditionTask(5, carry=False), "carry=False"),
    ],
)
def test_the_published_pairs_are_refused_where_they_do_not_fit(task, message):
    with pytest.raises(ValueError, match=message):
        published_suite(task)


def test_a_pair_with_too_many_digits_is_refused_by_name():
    with pytest.raises(ValueError, match=r"operand 1000: must be from 0 to 999 \(3 digits\)"):
        Questions.of(AdditionTask(3), [(999, 1), (1000, 1)])


@pytest.mark.parametrize(
    ("n_digits", "base"), [(1, 10), (2, 2), (5, 10), (15, 10), (15, 16), (40, 2)]
)
def test_a_generated_suite_has_every_kind(n_digits, base):
    suite = generated_suite(AdditionTask(n_digits, base), per_class=4, seed=3)
    kinds = list(zip(suite.question_class.tolist(), suite.cascade_length.tolist(), strict=True))
    wanted = [(0, 0), (1, 0)] + [(2, length) for length in range(1, n_digits)]
    assert kinds == [kind for kind in wanted for _ in range(4)]


def test_generated_suites_follow_their_seed():
    task = AdditionTask(6)
    first, same, other = (generated_suite(task, 2, seed) for seed in (1, 1, 2))
    assert pairs_of(first) == pairs_of(same) != pairs_of(other)


def test_without_carrying_everything_is_base_add():
    assert generated_suite(AdditionTask(4, carry=False), 5).question_class.tolist() == [0] * 5


@pytest.mark.parametrize(("per_class", "seed"), [(0, 0), (1, -1)])
def test_counts_that_make_no_suite_are_refused(per_class, seed):
    with pytest.raises(ValueError, match=f"per_class = {per_class}, seed = {seed}"):
        generated_suite(AdditionTask(5), per_class, seed)


def test_a_twin_differs_in_the_pair_that_makes_the_carry_only():
    task = AdditionTask(5)
    pairs = [(555, 445), (3340, 6660), (44445, 55555), (20695, 39705)]
    questions = Questions.of(task, pairs)
    # the last has two cascades of one; the lower is taken
    assert above_cascade(questions).tolist() == [
        3,
        4,
        5,
        2,
    ]
    twins = without_carry(questions)
    assert pairs_of(twins) == [(554, 444), (3350, 6630), (44444, 55554), (20694, 39704)]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_twins_have_the_run_of_nines_and_no_carry_in_it(length):
    task = AdditionTask(5)
    questions = cascade_questions(task, length, 500, torch.Generator().manual_seed(length))
    twins, above, each = without_carry(questions), above_cascade(questions), torch.arange(500)
    assert questions.carry[each, above].all() and not twins.carry[each, above].any()
    for down in range(1, length + 1):
        assert twins.ms9[each, above - down].all() and not twins.carry[each, above - down].any()
    assert ((twins.x != questions.x).sum(1) == 1).all()


def test_questions_without_a_cascade_have_no_twin():
    with pytest.raises(ValueError, match="00015\\+00045=000060: has no cascade"):
        without_carry(Questions.of(AdditionTask(5), [(55, 45), (15, 45)]))


@pytest.mark.parametrize(("k", "down"), [(1, 1), (3, 1), (3, 3), (5, 1), (5, 2)])
def test_carry_twins_differ_in_one_digit_and_in_the_carry_it_makes(k, down):
    clean, twin = carry_twins(AdditionTask(5), k, down, 300, torch.Generator().manual_seed(4))
    assert torch.equal(clean.y, twin.y)
    assert (clean.x != twin.x).nonzero()[:, 1].unique().tolist() == [k - down]
    assert clean.carry[:, k - down + 1 : k + 1].all()
    assert not twin.carry[:, k - down + 1 : k + 1].any()
    assert torch.equal((clean.answer[:, k] - 1) % 10, twin.answer[:, k])
    assert torch.equal(clean.answer[:, k + 1 :], twin.answer[:, k + 1 :])  # nothing goes further


def test_batches_of_two_tasks_are_not_joined():
    with pytest.raises(ValueError, match="2 tasks"):
        joined([generated_suite(AdditionTask(3)), generated_suite(AdditionTask(4))])


def test_names_of_classes():
    assert [class_name(*kind) for kind in ((0, 0), (1, 0), (2, 1), (2, 3))] == [
        "BA",
        "UC1",
        "simple US9",
        "US9, cascade of 3",
    ]
