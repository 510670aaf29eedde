"""Evaluation against questions answered one at a time, and intervals against published values."""

import math

import pytest
import torch

from addlib.analysis.answers import Answers, answer, carry_slips, first_mistake, write_out
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.stats import (
    answer_nll,
    bootstrap_interval,
    bootstrap_of,
    resampled_interval,
    wilson_interval,
)
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("answer_order", ["msd", "lsd"])
def test_answers_do_not_depend_on_the_batch_size_and_equal_free_writing(n_layers, answer_order):
    task, config = (
        AdditionTask(2, base=3, answer_order=answer_order),
        ModelConfig(n_layers=n_layers, width=24),
    )
    model = build_model(config, task, seed=4)
    questions = uniform_questions(task, 200, torch.Generator().manual_seed(1))
    answers = answer(model, questions, batch_size=200)
    again = answer(model, questions, batch_size=7)
    assert torch.equal(answers.digits, again.digits)
    assert torch.allclose(answers.nll, again.nll, atol=1e-5)

    written = questions.tokens.clone()  # the model writes its own answer, token by token
    written[:, 2 * task.n_digits + 2 :] = 0
    for position in task.answer_positions:
        written[:, position + 1] = model(written)[:, position].argmax(-1)
    assert torch.equal((written == questions.tokens).all(1), answers.right)
    assert 0 < answers.digit_right.float().mean() < 1


def test_no_questions_are_refused():
    task, config = AdditionTask(2), ModelConfig(width=24)
    model = build_model(config, task, seed=4)
    questions = uniform_questions(task, 0, torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="0 questions"):
        answer(model, questions)


def test_mistakes_with_carries_known_answers():
    """555 + 445 = 1000 written 0900 lost the carry twice, and 123 + 111 = 244 invented one."""
    questions = Questions.of(AdditionTask(3), [(555, 445), (123, 111)])
    digits = torch.tensor([[0, 0, 9, 0], [4, 4, 2, 0]])  # units first
    answers = Answers(questions, digits, torch.zeros(2, 4))

    lost, invented = carry_slips(answers)

    assert lost.nonzero().tolist() == [[0, 2], [0, 3]]
    assert invented.nonzero().tolist() == [[1, 1]]
    assert first_mistake(answers)[0] == 0  # two columns of 9 are below the top digit


def test_wilson_interval_known_answers():
    low, high = wilson_interval(92, 100)
    assert (low, high) == pytest.approx((0.8502, 0.9589), abs=5e-4)
    low, high = wilson_interval(0, 10)
    assert low == 0
    assert high == pytest.approx(0.2775, abs=5e-4)
    with pytest.raises(ValueError, match="11 successes in 10 trials"):
        wilson_interval(11, 10)


def test_bootstrap_interval_agrees_with_the_normal_one_where_that_holds():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(3)) * 2 + 5
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std().item() / 2000**0.5
    assert (low, high) == pytest.approx(
        (values.mean().item() - half, values.mean().item() + half), abs=0.15 * half
    )
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(torch.ones(5)) == (1.0, 1.0)
    with pytest.raises(ValueError, match="0 values"):
        bootstrap_interval(torch.empty(0))


def test_a_bootstrap_interval_holds_its_value():
    """Of few draws, all may lie on one side of the mean."""
    values = torch.rand(9, generator=torch.Generator().manual_seed(1))
    for seed in range(40):
        low, high = bootstrap_interval(values, draws=2, seed=seed)
        assert low <= values.mean().item() <= high


def test_a_resampled_interval_of_a_mean_is_the_bootstrap_s():
    values = torch.randn(50, generator=torch.Generator().manual_seed(3))
    interval = resampled_interval(lambda rows: values[rows].mean().item(), 50, draws=1000)
    assert interval == pytest.approx(bootstrap_interval(values), abs=1e-6)
    low, high = resampled_interval(lambda rows: values[rows].max().item(), 50)
    assert low < high == values.max()
    with pytest.raises(ValueError, match="0 members"):
        resampled_interval(lambda rows: 0.0, 0)


def test_the_smallest_of_equal_cells_has_the_interval_of_the_smallest():
    """Cells that differ by chance alone: the smallest found lies below what they all are."""
    values = torch.randn(400, 20, generator=torch.Generator().manual_seed(5)) + 3
    lowest, (low, high) = bootstrap_of(torch.min, values)
    at = values.mean(0).argmin()
    assert lowest == pytest.approx(values[:, at].mean().item())
    selected_low, selected_high = bootstrap_interval(values[:, at])
    assert low < selected_low
    assert high < selected_high
    known = torch.tensor([[1.0, 2.0]]).expand(9, 2)
    assert bootstrap_of(torch.min, known) == (1.0, (1.0, 1.0))
    assert bootstrap_of(lambda mean: mean[1] / mean[0], known) == (2.0, (2.0, 2.0))
    one = values[:, 0]
    assert bootstrap_of(torch.sum, one)[1] == bootstrap_interval(one)
    with pytest.raises(ValueError, match="0 values"):
        bootstrap_of(torch.min, values[:0])


def test_losses_far_below_single_precision_are_exact():
    logits = torch.zeros(1, 5)
    logits[0, 2] = 20.0
    loss = float(answer_nll(logits, torch.tensor([2])))
    assert loss == pytest.approx(4 * math.exp(-20), rel=1e-6, abs=0)


def test_a_model_that_reads_its_own_digits_writes_one_after_another():
    task = AdditionTask(2)
    model = build_model(ModelConfig(1, 3, 24), task, seed=3)
    asked = uniform_questions(task, 40, torch.Generator().manual_seed(0))
    written = write_out(model, asked, batch_size=16)
    tokens = asked.tokens.clone()
    tokens[:, -3:] = written.flip(1)  # what was written stands where the answer did
    logits = answer_logits(model, task, tokens)
    assert torch.equal(logits.argmax(-1), written)
    zeros = ("blocks.0.hook_resid_post", lambda value, hook: torch.zeros_like(value))
    assert len(write_out(model, asked, [zeros]).unique(dim=0)) == 1
