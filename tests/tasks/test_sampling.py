"""Exact probabilities against enumeration, and samplers against exact probabilities."""

import itertools
from collections import Counter
from fractions import Fraction

import pytest
import torch

from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import (
    bucket_probabilities,
    cascade_questions,
    class_probabilities,
    class_questions,
    every_setting,
    nine_rich_questions,
    training_questions,
    uniform_questions,
)


def every_question(task):
    return Questions.of(task, list(itertools.product(range(task.base**task.n_digits), repeat=2)))


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize(("n_digits", "base"), [(1, 10), (2, 10), (3, 2), (3, 3), (3, 5), (2, 16)])
def test_class_probabilities_equal_enumeration(n_digits, base, carry):
    task = AdditionTask(n_digits, base, carry)
    questions = every_question(task)
    classes, lengths = class_probabilities(task)
    counted = Counter(questions.question_class.tolist())
    assert classes == {
        name: Fraction(counted[code], len(questions)) for code, name in enumerate(BUCKETS)
    }
    counted = Counter(questions.cascade_length.tolist())
    assert lengths == [Fraction(counted[length], len(questions)) for length in range(n_digits + 1)]
    shares = bucket_probabilities(task)
    for column in range(n_digits):
        counted = Counter(questions.bucket[:, column].tolist())
        assert shares[column] == [Fraction(counted[code], len(questions)) for code in range(3)]


def test_class_probabilities_match_a_large_sample_at_five_digits():
    task = AdditionTask()
    questions = uniform_questions(task, 400_000, torch.Generator().manual_seed(1))
    classes, lengths = class_probabilities(task)
    for code, name in enumerate(BUCKETS):
        p = float(classes[name])
        assert (questions.question_class == code).float().mean().item() == pytest.approx(
            p, abs=5 * (p / 400_000) ** 0.5
        )
    for length, p in enumerate(map(float, lengths)):
        share = (questions.cascade_length == length).float().mean().item()
        assert share == pytest.approx(p, abs=5 * (p / 400_000) ** 0.5)
    assert sum(classes.values()) == sum(lengths) == 1


def test_only_every_fifth_batch_is_enriched_and_by_one_fifth_of_its_cells():
    task, count = AdditionTask(), 4096
    generator = torch.Generator().manual_seed(3)
    for step in range(10):
        share = training_questions(task, count, step, generator).ms9.float().mean().item()
        expected = 0.2 + 0.8 * 0.1 if step % 5 == 4 else 0.1
        assert share == pytest.approx(expected, abs=0.012)


def test_enrichment_changes_one_operand_only_and_exactly_the_stated_cells():
    task, count = AdditionTask(), 64
    changed_operands = set()
    for seed in range(12):
        plain = uniform_questions(task, count, torch.Generator().manual_seed(seed))
        enriched = training_questions(task, count, 4, torch.Generator().manual_seed(seed))
        changed_x, changed_y = plain.x != enriched.x, plain.y != enriched.y
        changed = changed_x | changed_y
        assert not (changed_x.any() and changed_y.any())
        changed_operands.add("x" if changed_x.any() else "y")
        assert enriched.ms9[changed].all()
        already = plain.ms9.sum().item()  # a chosen cell that already summed to 9 does not change
        assert count - already <= changed.sum().item() <= count
    assert changed_operands == {"x", "y"}


def test_the_stream_depends_on_its_own_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = [
        training_questions(AdditionTask(), 8, step, g).tokens
        for g in [torch.Generator().manual_seed(7)]
        for step in range(6)
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    again = [
        training_questions(AdditionTask(), 8, step, g).tokens
        for g in [torch.Generator().manual_seed(7)]
        for step in range(6)
    ]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = uniform_questions(AdditionTask(), 8, torch.Generator().manual_seed(8)).tokens
    assert not torch.equal(first[0], other)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_cascade_questions_are_uniform_over_all_questions_of_their_length(length):
    task = AdditionTask(3, 3)
    wanted = every_question(task)
    wanted = set(wanted.tokens[wanted.cascade_length == length].unbind())
    draw = cascade_questions(task, length, 300 * len(wanted), torch.Generator().manual_seed(5))
    assert (draw.cascade_length == length).all()
    counts = Counter(tuple(t.tolist()) for t in draw.tokens)
    assert len(counts) == len(wanted)
    chi2 = sum((c - 300) ** 2 / 300 for c in counts.values())
    # five standard deviations above its mean
    assert chi2 < len(wanted) + 5 * (2 * len(wanted)) ** 0.5


def test_two_separate_cascades_of_one_length_are_not_drawn_twice_as_often():
    task = AdditionTask(4, 2)
    wanted = every_question(task)
    wanted = wanted.tokens[wanted.cascade_length == 1]
    draw = cascade_questions(task, 1, 400 * len(wanted), torch.Generator().manual_seed(6))
    counts = Counter(tuple(t.tolist()) for t in draw.tokens)
    twice = {tuple(t.tolist()) for t in draw.tokens[((draw.us9_run == 1).sum(1) == 2)]}
    assert twice
    assert sum(counts[t] for t in twice) / len(twice) == pytest.approx(400, rel=0.1)


def test_impossible_cascades_are_refused():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="lengths 0 to 4"):
        cascade_questions(AdditionTask(), 5, 1, generator)
    with pytest.raises(ValueError, match="lengths 0 to 0"):
        cascade_questions(AdditionTask(carry=False), 1, 1, generator)


@pytest.mark.parametrize("name", BUCKETS)
def test_class_questions_are_uniform_over_all_questions_of_their_class(name):
    task = AdditionTask(2, 3)
    wanted = every_question(task)
    wanted = wanted.tokens[wanted.question_class == BUCKETS.index(name)]
    draw = class_questions(task, name, 300 * len(wanted), torch.Generator().manual_seed(8))
    assert len(draw) == 300 * len(wanted) and (draw.question_class == BUCKETS.index(name)).all()
    counts = Counter(tuple(t.tolist()) for t in draw.tokens)
    assert len(counts) == len(wanted)
    chi2 = sum((c - 300) ** 2 / 300 for c in counts.values())
    assert chi2 < len(wanted) + 5 * (2 * len(wanted)) ** 0.5


def test_without_carrying_base_add_is_every_question():
    draw = class_questions(
        AdditionTask(1, 3, carry=False), "BA", 900, torch.Generator().manual_seed(9)
    )
    assert len({tuple(t.tolist()) for t in draw.tokens}) == 9


@pytest.mark.parametrize(
    ("task", "name"),
    [(AdditionTask(1), "US9"), (AdditionTask(3, carry=False), "UC1"), (AdditionTask(), "US10")],
)
def test_classes_without_questions_are_refused(task, name):
    with pytest.raises(ValueError, match=f"name = '{name}'"):
        class_questions(task, name, 1, torch.Generator().manual_seed(0))


def test_nine_rich_questions_have_the_share_asked_for():
    task = AdditionTask(4)
    drawn = nine_rich_questions(task, 20_000, torch.Generator().manual_seed(1))
    # a pair is made to, or does so by chance
    assert abs(drawn.ms9.double().mean().item() - (0.5 + 0.5 * 0.1)) < 0.01
    assert abs(drawn.x.double().mean().item() - 4.5) < 0.05
    none = nine_rich_questions(task, 100, torch.Generator().manual_seed(1), share=0.0)
    same = uniform_questions(task, 100, torch.Generator().manual_seed(1))
    assert torch.equal(none.y, same.y)
    assert nine_rich_questions(task, 9, torch.Generator().manual_seed(1), share=1.0).ms9.all()


@pytest.mark.parametrize("k", [2, 3])
def test_every_setting_comes_twice_with_and_without_a_carry_from_below(k):
    task = AdditionTask(4, 4)
    asked = every_setting(task, k, torch.Generator().manual_seed(1))
    x, y = asked.x, asked.y
    setting = torch.stack([x[:, k - 1], y[:, k - 1], x[:, k - 2], y[:, k - 2], x[:, k] + y[:, k]])
    found = setting.unique(dim=1)
    assert found.shape[1] == 4**4 * 7
    assert len(asked) == 2 * found.shape[1]
    assert torch.equal(setting[:, ::2], setting[:, 1::2])
    assert not asked.carry[::2, k - 2].any()
    assert asked.carry[1::2, k - 2].all() == (k > 2)
    assert x.min() == y.min() == 0
    assert x.max() == y.max() == 3
    assert len(x[:, 3].unique()) == 4


@pytest.mark.parametrize("k", [1, 4])
def test_settings_need_an_own_pair_and_two_below(k):
    with pytest.raises(ValueError, match=f"k = {k}"):
        every_setting(AdditionTask(4), k, torch.Generator())
