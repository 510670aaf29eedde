"""Additive tables and the program, where the right answer is known."""

import itertools

import pytest
import torch

from addlib.analysis.carry_plane import carry_out, fit_axes, own_sum
from addlib.analysis.pair_tables import (
    CarryProgram,
    PairTables,
    fit_pair_tables,
    fit_thresholds,
    line_from_weights,
    tables_from_weights,
    with_carries,
)
from addlib.models.addition import ModelConfig, build_model
from addlib.models.attention_tables import AttentionTables
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions, uniform_questions


def drawn(task, count=4000, seed=0):
    return nine_rich_questions(task, count, torch.Generator().manual_seed(seed))


def every_sum(task):
    return Questions.of(task, list(itertools.product(range(task.base**task.n_digits), repeat=2)))


def test_the_tables_of_a_planted_sum_are_found_exactly():
    task = AdditionTask(3, 5)
    generator = torch.Generator().manual_seed(1)
    planted = PairTables(torch.randn(3, 5, 5, 2, generator=generator), torch.tensor([1.0, 2.0]))
    fitted = fit_pair_tables(planted(drawn(task)), drawn(task), 3)
    fresh = drawn(task, seed=2)
    assert torch.allclose(fitted(fresh), planted(fresh), atol=1e-4)
    centred = planted.values - planted.values.mean((1, 2), keepdim=True)
    assert torch.allclose(fitted.values, centred, atol=1e-4)


def test_no_tables_give_a_planted_product():
    task = AdditionTask(2, 5)
    asked = every_sum(task)
    sums = (asked.x + asked.y - 4).float()
    product = sums.prod(1, keepdim=True)
    fitted = fit_pair_tables(product, asked, 2)
    assert (product - fitted(asked)).var() > 0.99 * product.var()


@pytest.mark.parametrize("k", [0, 4])
def test_columns_without_pairs_below_are_refused(k):
    task = AdditionTask(3)
    with pytest.raises(ValueError, match=f"k = {k}"):
        fit_pair_tables(torch.zeros(10, 1), drawn(task, 10), k)


def test_tables_from_the_weights_are_exact_where_attention_does_not_choose():
    task = AdditionTask(3)
    model = build_model(ModelConfig(width=48), task, seed=1)
    with torch.no_grad():
        for name, p in weights(model).items():
            if ".attn.q." in name:
                p.zero_()
    k = 2
    tables = AttentionTables.of(model, task, k)
    found = tables_from_weights(tables)
    ours, theirs = drawn(task, 200), drawn(task, 200, seed=1)
    # the same but for the pairs below: what else is read is the same for both
    other = Questions(
        task,
        torch.cat([theirs.x[:, :k], ours.x[:, k:]], 1),
        torch.cat([theirs.y[:, :k], ours.y[:, k:]], 1),
    )
    same_query = (other.answer[:, k + 1] == ours.answer[:, k + 1]).nonzero()[:, 0]
    assert len(same_query) > 50
    moved = (tables(other) - tables(ours))[same_query]
    expected = (found(other) - found(ours))[same_query]
    assert moved.abs().max() > 0.01
    assert torch.allclose(moved, expected, atol=1e-5)


def test_without_leans_all_nines_add_the_same_and_other_pairs_what_they_did():
    tables = PairTables(torch.randn(2, 4, 4, 1), torch.ones(1))
    alike = tables.nines_alike()
    nine = torch.arange(4)[:, None] + torch.arange(4) == 3
    assert torch.equal(alike.values[:, ~nine], tables.values[:, ~nine])
    of_nines = alike.values[:, nine]
    assert torch.allclose(of_nines, tables.values[:, nine].mean(1, keepdim=True).expand(2, 4, 1))


def test_the_line_needs_no_question():
    task = AdditionTask(3)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(3, 10, 10, 6, generator=generator)
    values += (torch.arange(10)[:, None, None] + torch.arange(10)[:, None] - 9) * torch.ones(6)
    tables = PairTables(values - values.mean((1, 2), keepdim=True), torch.zeros(6))
    asked = drawn(task, 40_000)
    fitted = fit_axes(tables(asked), asked, 3).line
    assert line_from_weights(tables) @ fitted > 0.999
    assert line_from_weights(tables, share=0.0) @ fitted < line_from_weights(tables) @ fitted


def test_spectrum_counts_the_directions():
    one = torch.randn(2, 4, 4, 1, generator=torch.Generator().manual_seed(0))
    tables = PairTables(one * torch.tensor([1.0, 2.0, 0.0]), torch.zeros(3))
    assert (tables.spectrum() > 1e-3).tolist() == [True, False, False]


def test_thresholds_part_what_can_be_parted():
    u = torch.tensor([-3.0, -1.0, 2.0, 5.0, 1.0, 2.0])
    own = torch.tensor([4, 4, 4, 4, 5, 5])
    out = torch.tensor([False, False, False, False, True, True])
    more = torch.tensor([False, False, True, True, True, True])
    theta = fit_thresholds(u, own, out, more, sums=19)
    assert theta[4, 0] == 0.5
    assert theta[5, 1] < 1.0
    assert theta[7, 0] == theta[18, 1] == 0.0  # that of all: between -1 and 1


def exact_program(task):
    """Tables with places 1, 1/B, 1/B², … of the base: the carry is where they exceed 0."""
    base = task.base
    pairs = torch.arange(base)[:, None] + torch.arange(base) - base + 1
    tables, thresholds = {}, {}
    for k in range(1, task.n_answer):
        place = float(base) ** (torch.arange(k) - k)
        values = pairs.double() * place[:, None, None]
        tables[k] = PairTables(values[..., None], torch.zeros(1).double())
        thresholds[k] = torch.zeros(2 * base - 1, 2).double() + place[0] / 2
    return CarryProgram(task, tables, thresholds)


@pytest.mark.parametrize(("n_digits", "base"), [(2, 2), (3, 3), (2, 10)])
def test_a_program_with_exact_tables_adds_every_sum(n_digits, base):
    task = AdditionTask(n_digits, base)
    asked = every_sum(task)
    assert torch.equal(exact_program(task).predict(asked), asked.answer)


def test_a_program_told_the_true_carries_gives_the_truth():
    asked = drawn(AdditionTask(5))
    assert torch.equal(with_carries(asked, asked.carry), asked.answer)


def test_the_margin_uses_the_carry_just_written():
    task = AdditionTask(3)
    program = exact_program(task)
    program.thresholds[2][:, 1] = 100.0
    asked = uniform_questions(task, 200, torch.Generator().manual_seed(0))
    told = program.margin(asked, 2) > 0
    wrote_one = carry_out(asked, 2)
    assert wrote_one.any()
    assert not told[wrote_one].any()
    assert torch.equal(told[~wrote_one], asked.carry[~wrote_one, 2])
    assert (own_sum(asked, 2)[wrote_one] >= 9).all()
