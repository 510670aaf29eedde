"""Cascades, twins and carries: right by whole numbers, and graded right for observers that are known."""

import pandas as pd
import pytest
import torch
from scipy.stats import norm

from addlib.llm.carries import (
    Sight,
    SumPairs,
    Writes,
    answer_logits,
    at_best,
    carry_sources,
    exchange_carries,
    seen_one_ahead,
    sums_as_long,
    sums_form,
    twins,
)
from addlib.llm.load import RANDOM, load_llm
from addlib.llm.prompts import ADD, few_shot

SIZES = [(2, 1), (3, 1), (3, 2), (4, 3)]


@pytest.mark.parametrize("n_digits", [2, 3, 4])
@pytest.mark.parametrize("shots", [1, 4, 100])
def test_examples_have_answers_as_long_as_those_asked_for(n_digits, shots):
    form = sums_form(n_digits, shots, 5)
    assert len(set(form.shots)) == shots
    for a, b in form.shots:
        assert len(str(a)) == len(str(b)) == len(str(a + b)) == n_digits
    assert any(sum(one) >= 10**n_digits for one in sums_form(n_digits, 40, 5, True).shots)


def test_sums_are_as_long_as_their_numbers_and_none_is_an_example():
    form = sums_form(2, 3)
    found = sums_as_long(2, 50, 0, form.shots)
    assert len(set(found)) == 50
    assert not {*found} & {*form.shots}
    assert all(min(one) >= 10 and sum(one) < 100 for one in found)


@pytest.mark.parametrize(("n_digits", "down"), SIZES)
def test_twins_differ_in_one_digit_and_in_the_carry(n_digits, down):
    cascades, plain = twins(n_digits, down, 50)
    assert len(set(cascades)) > 25
    for (a, b), (c, d) in zip(cascades, plain, strict=True):
        assert b == d
        assert len(str(a)) == len(str(b)) == len(str(a + b)) == len(str(c + d)) == n_digits
        assert sum(x != y for x, y in zip(str(a), str(c), strict=True)) == 1
        assert str(a)[down] != str(c)[down]
        own = int(str(a)[0]) + int(str(b)[0])
        assert int(str(a + b)[0]) == own + 1
        assert int(str(c + d)[0]) == own
        between = zip(str(a)[1:down], str(b)[1:down], strict=True)
        assert all(int(x) + int(y) == 9 for x, y in between)


def observer(asked, sees):
    """Logits of one that looks so many pairs down, by brute force, and takes no carry for granted."""
    due = torch.tensor([[int(digit) for digit in str(a + b)] for a, b in asked])
    logits = torch.zeros(*due.shape, 10)
    logits.scatter_(2, due[..., None], 1.0)
    for row, (a, b) in zip(logits, asked, strict=True):
        cut = 10 ** max(0, len(str(a)) - 1 - sees)
        row[0] = 0
        row[0, int(str((a // cut + b // cut) * cut)[0])] = 1
    return logits, due


@pytest.mark.parametrize(("n_digits", "down"), SIZES)
@pytest.mark.parametrize("sees", [0, 1, 2, 3])
def test_an_observer_has_the_sight_that_it_has(n_digits, down, sees):
    both = [observer(asked, sees) for asked in twins(n_digits, down, 60)]
    sight = Sight.of(*both)
    assert sight.usable.all()
    most = 2 * norm.ppf(60.5 / 61)
    assert sight.d_prime() == pytest.approx(most if sees >= down else 0)


def test_sums_with_another_wrong_digit_do_not_count():
    both = [observer(asked, 3) for asked in twins(3, 1, 10)]
    both[1][0][4, 2] = both[1][0][4, 2].roll(1)
    sight = Sight.of(*both)
    assert sight.usable.tolist() == [i != 4 for i in range(10)]
    none = Sight(sight.said, torch.zeros(10, dtype=torch.bool))
    assert none.d_prime() == 0
    assert none.every.d_prime() == sight.every.d_prime() > sight.d_prime()


def test_answers_are_read_at_their_places():
    llm = load_llm(RANDOM, device="cpu")
    form = few_shot(ADD, 2)
    logits, due = answer_logits(llm, form, [(34, 25), (17, 38), (50, 44)], 2)
    assert due.tolist() == [[5, 9], [5, 5], [9, 4]]
    ids = llm.tokenizer(form.prompt((17, 38), 1), add_special_tokens=False).input_ids
    with torch.no_grad():
        whole = llm.bridge(torch.tensor([ids]))[0, -1, :10]
    assert torch.allclose(logits[1, 1], whole, atol=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_sources_differ_in_what_they_must(same):
    for (a, b), (c, d) in zip(*carry_sources(40, same), strict=True):
        carries = [a % 10 + b % 10 > 9, c % 10 + d % 10 > 9]
        assert (carries[0] == carries[1]) == same
        assert a // 10 + b // 10 != c // 10 + d // 10
        assert a + b < 100 and c + d < 100


def test_writes_says_which_digit_is_likeliest():
    logits = torch.zeros(2, 30)
    logits[0, 14] = 1
    logits[1, 29] = 1
    logits[1, 12] = 0.5
    assert Writes(torch.arange(10, 20), torch.tensor([4, 3]))(logits).tolist() == [1, 0]


@pytest.mark.parametrize("same", [True, False])
def test_sums_that_end_in_the_same_digit_differ_by_the_other_number_alone(same):
    base, source = carry_sources(40, same, same_digit=True)
    for (a, b), (c, d) in zip(base, source, strict=True):
        assert b % 10 == d % 10 and a % 10 != c % 10
        assert ((a % 10 + b % 10 > 9) == (c % 10 + d % 10 > 9)) == same
        assert a // 10 + b // 10 != c // 10 + d // 10
        assert a + b < 100 and c + d < 100
    assert (base, source) != carry_sources(40, same)


def test_one_digit_of_look_ahead_is_a_guess_below_a_nine():
    """By brute force: the digits that an observer can tell for every number further down."""
    for problem in [(372, 425), (318, 425), (34, 25), (4321, 5670), (4391, 5600)]:
        n = len(str(problem[0]))
        for i, share in enumerate(seen_one_ahead(problem)):
            cut = 10 ** max(0, n - 2 - i)
            heads = [number // cut for number in problem]
            ends = {
                str(heads[0] * cut + heads[1] * cut + low)[i]
                for low in ({0, 2 * cut - 2} if cut > 1 else {0})
            }
            assert share == 1 / len(ends)


def test_the_layer_is_chosen_on_pairs_that_do_not_test_it():
    hits = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    best, there = at_best(hits)
    assert best == 0
    assert there.tolist() == [0, 0]


def test_all_of_a_stream_brings_the_other_sums_digit():
    """Before the last norm, at `=`, there is nothing but the answer: it comes over whole."""
    llm = load_llm(RANDOM, device="cpu")
    form = sums_form(2, 2)
    moved = exchange_carries(llm, form, 12, 0, 8)
    assert moved.layers == [0, 1]
    assert moved.at_operand.shape[0] == 2
    assert len(moved.kept) <= 6
    pairs = SumPairs.drawn(llm, form, 12)
    assert (pairs.carry[0] + pairs.carry[1] == 1).all()
    logits = [llm.bridge(of)[:, -1, :10].argmax(-1) for of in pairs.tokens]
    cells = pd.DataFrame([(0, p) for p in range(pairs.tokens[0].shape[1])])
    cells.columns = ["layer", "pos"]
    pairs = SumPairs(pairs.tokens, logits, [torch.zeros_like(of) for of in logits])
    written, able = pairs.written_with(llm, cells, logits)
    assert able.all()
    own, others = written
    differ = logits[0] != logits[1]
    assert differ.any()
    assert (own[0] == 1).all()  # the examples are the same in both
    assert (own + others <= 1)[:, differ].all()
