"""Late neurons, knock-outs and swapped digits: what they do is what hooks on whole prompts do."""

import pytest
import torch
from test_neurons import FORM, llm, pairs, ranked

from addlib.llm.carries import sums_form
from addlib.llm.digit_swaps import DigitSwaps, swap_digits
from addlib.llm.knock_outs import KnockOuts, groups_of, knock_outs
from addlib.llm.last_token import post
from addlib.llm.late_neurons import LateNeurons
from addlib.llm.neuron_rules import Typed, best_rules, rules
from addlib.llm.prompts import encode

GRID = [(a, b) for a in range(10, 40) for b in range(2, 10)]


def late(place=0, asked=GRID):
    return LateNeurons.over(llm(), FORM, asked, place, 64)


def whole(form, problem, hooks=(), place=0):
    """Logits of the ten digits, without a shared start."""
    tokens = encode(llm().tokenizer, [form.prompt(problem, place)])
    with torch.no_grad(), llm().bridge.hooks(fwd_hooks=list(hooks)):
        return llm().bridge(tokens)[0, -1, :10]


def test_activations_and_logits_are_those_of_whole_prompts():
    found = late(1, [(23, 4), (31, 5)])
    assert list(found.layers) == [1]
    assert found.due.tolist() == [2, 5]
    tokens = encode(llm().tokenizer, [FORM.prompt((31, 5), 1)])
    _, run = llm().bridge.run_with_cache(tokens)
    assert torch.allclose(found.held[0, 1], run[post(1)][0, -1], atol=1e-5)
    assert torch.allclose(found.logits[1], whole(FORM, (31, 5), place=1), atol=1e-5)
    assert torch.equal(found.of(torch.tensor([3, 47])), found.held[0][:, [3, 47]])


def test_neurons_are_chosen_from_the_second_half_alone():
    found = late()
    chosen = found.most_important(ranked(), 10)
    in_order = [number - 48 for number in ranked().ranked.tolist() if number >= 48]
    assert chosen.tolist() == in_order[:10]
    beside = found.random_beside(torch.tensor([3, 47]), torch.Generator().manual_seed(0))
    assert ((beside >= 0) & (beside < 48)).all()
    assert found.where(chosen).sum() == 10
    assert found.sizes.shape == (1, 48)


def test_groups_are_of_one_rule_and_class_and_typed():
    found = Typed(
        ["x", "y"],
        torch.tensor([0, 1, 1, 0]),
        torch.tensor([0.9, 0.8, 0.7, 0.4]),
        torch.tensor([2, 5, 5, 2]),
    )
    assert groups_of(torch.tensor([7, 8, 9, 10]), found) == {("y", 5): [8, 9], ("x", 2): [7]}


def test_a_knock_out_costs_what_hooks_on_whole_prompts_cost():
    found = late()
    by = {name: rules(FORM, GRID)[name] for name in ("b", "last digit of a")}
    fit = torch.arange(len(GRID)) % 2 == 0
    chosen = torch.arange(12)
    typed = best_rules(found.of(chosen), by, fit)
    typed = Typed(typed.names, typed.rule, torch.ones(12), typed.peak)  # all are typed
    lost = knock_outs(found, chosen, typed, by, fit, 30, 2)
    assert len(lost) == 30
    (name, label), numbers = next(iter(lost.groups.items()))
    right = found.logits.argmax(-1) == found.due
    able = right if right.sum() > 20 else ~right
    asked = (able & ~fit).nonzero()[:30, 0]
    assert lost.inside[0].tolist() == (by[name][asked] == label).tolist()

    def at_means(value, hook):
        value[:, -1, numbers] = found.held[0, fit][:, numbers].mean(0)
        return value

    for i in (0, 7):
        row = int(asked[i])
        of = [whole(FORM, GRID[row], hooks) for hooks in ([], [(post(1), at_means)])]
        fall = (of[0].log_softmax(-1) - of[1].log_softmax(-1))[found.due[row]]
        assert lost.falls[0, i] == pytest.approx(float(fall), abs=1e-5)


def test_specificity_is_the_ratio_of_both_falls():
    inside = torch.tensor([[True, True, False, False]])
    falls = torch.tensor([[3.0, 1.0, 0.5, 0.5]])
    lost = KnockOuts({("b", 2): [1]}, inside, falls, falls / 4, torch.zeros(4))
    assert lost.specificity() == 4
    assert lost.beside_random() == 0.25
    assert lost.specificity(torch.tensor([0, 2])) == 6
    assert lost.by_group.tolist() == [[2.0, 0.5]]


def test_swapped_digits_are_what_hooks_on_whole_prompts_give():
    form = sums_form(2, 2)
    sums = [(a, b) for a in range(11, 31) for b in (23, 38, 57)]
    swaps = swap_digits(llm(), form, sums, 10, torch.Generator().manual_seed(0), 16)
    assert swaps.sets == ["tens", "units", "random", "all late"]
    answers = [(a + b) // 10 for a, b in sums], [(a + b) % 10 for a, b in sums]
    tests = [i for i in range(30, 60) if all(of[i] != of[i - 1] for of in answers)]
    assert len(swaps) == len(tests)
    assert swaps.changed.shape == (60,)
    i = tests[3]
    for place, name in enumerate(("tens", "units")):
        tokens = encode(llm().tokenizer, [form.prompt(sums[i - 1], place)])
        _, run = llm().bridge.run_with_cache(tokens)
        from_other = run[post(1)][0, -1]

        def take(value, hook, from_other=from_other):
            value[:, -1] = from_other
            return value

        two = [whole(form, sums[i], hooks, place) for hooks in ([], [(post(1), take)])]
        odds = [row[answers[place][i - 1]] - row[answers[place][i]] for row in two]
        moved = swaps.moved["all late", name][3]
        assert moved == pytest.approx(float(odds[1] - odds[0]), abs=1e-4)
        assert abs(moved) > 1e-3


def test_the_smaller_ratio_says_whose_digit_a_set_is():
    moved = {
        ("tens", "tens"): torch.tensor([4.0, 2.0]),
        ("tens", "units"): torch.tensor([1.0, 1.0]),
        ("units", "tens"): torch.tensor([1.0, 3.0]),
        ("units", "units"): torch.tensor([4.0, 4.0]),
    }
    swaps = DigitSwaps(moved, torch.zeros(2, dtype=torch.bool), 0.0)
    assert swaps.own_digit() == 2
    assert swaps.own_digit(torch.tensor([0])) == 4
    assert len(pairs()) == 6
