"""What a model predicts, against loops over single questions."""

import itertools
import math

import pytest
import torch

from addlib.analysis import naive_sums
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import carry_twins, uniform_questions

TASKS = [
    AdditionTask(3),
    AdditionTask(2, 2),
    AdditionTask(3, 4, answer_order="lsd"),
    AdditionTask(2, 5, carry=False),
]


def some(task, count=60, seed=0):
    """Questions, and random logits for them."""
    generator = torch.Generator().manual_seed(seed)
    questions = uniform_questions(task, count, generator)
    return questions, 3 * torch.randn(
        count, task.n_answer, task.d_vocab, generator=generator, dtype=torch.float64
    )  # fmt: skip


def naive_sum(questions, i, k):
    task = questions.task
    return int(questions.x[i, k] + questions.y[i, k]) % task.base if k < task.n_digits else 0


@pytest.mark.parametrize("task", TASKS)
def test_the_decomposition_is_an_identity(task):
    questions, logits = some(task)
    log_p = logits.log_softmax(-1)
    for k in range(task.n_answer):
        outside, within = naive_sums.decompose(logits, questions, k)
        nll = -log_p[torch.arange(len(questions)), k, questions.answer[:, k]]
        assert (outside + within - nll).abs().max() < 1e-9
        for i in range(len(questions)):
            s = naive_sum(questions, i, k)
            mass = log_p[i, k, [s, (s + 1) % task.base]].exp()
            assert outside[i].item() == pytest.approx(-mass.sum().log().item(), abs=1e-12)
            true = mass[int(questions.answer[i, k] != s)]
            assert within[i].item() == pytest.approx(-(true / mass.sum()).log().item(), abs=1e-9)


def test_a_prediction_on_the_two_candidates_alone_has_nothing_outside():
    questions, logits = some(AdditionTask(3))
    s = (questions.x[:, 1] + questions.y[:, 1]) % 10
    logits[:, 1] = -1e4
    logits[torch.arange(60), 1, s] = 0.0
    logits[torch.arange(60), 1, (s + 1) % 10] = 0.0
    outside, within = naive_sums.decompose(logits, questions, 1)
    assert outside.abs().max() == pytest.approx(0, abs=1e-12)
    assert within.tolist() == pytest.approx([torch.tensor(2.0).log().item()] * 60, abs=1e-6)


def test_the_parts_of_an_excess_add_up_to_the_loss():
    """And one who always bets 55 : 45 on the two candidates pays the exact level, nothing else."""
    questions, logits = some(AdditionTask(3), count=200)
    nll = -logits.log_softmax(-1)[:, 1].gather(1, questions.answer[:, 1, None])[:, 0]
    nll_twice = -(2 * logits).log_softmax(-1)[:, 1].gather(1, questions.answer[:, 1, None])[:, 0]
    rows = naive_sums.excess([logits, 2 * logits], questions, 1)
    for carry in (0, 1):
        chosen = questions.carry[:, 1] == bool(carry)
        mean = (nll + nll_twice)[chosen].mean().item() / 2
        assert sum(rows[carry].values()) == pytest.approx(mean, abs=1e-9)

    s = (questions.x[:, 1] + questions.y[:, 1]) % 10
    logits[:, 1] = -1e4
    logits[torch.arange(200), 1, s] = math.log(0.55)
    logits[torch.arange(200), 1, (s + 1) % 10] = math.log(0.45)
    for row in naive_sums.excess([logits], questions, 1).values():
        parts = [row[part] for part in ("leak", "mean share", "scatter")]
        assert parts == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_leakage_candidates_and_confusion_equal_loops(task):
    questions, logits = some(task)
    p, base, count = logits.softmax(-1), task.base, len(questions)
    leaked = naive_sums.leakage(p, questions)
    assert leaked.shape == (task.n_digits, base)
    for k, r in itertools.product(range(task.n_digits), range(base)):
        values = [p[i, k, (naive_sum(questions, i, k) + r) % base].item() for i in range(count)]
        assert leaked[k, r].item() == pytest.approx(sum(values) / count, abs=1e-12)
    means = naive_sums.candidates(p, questions)
    assert list(means) == ["naive", "naive + 1", "1 deep", "2 deep"]
    digits = {name: torch.zeros(count, task.n_answer, dtype=torch.int64) for name in means}
    for i, k in itertools.product(range(count), range(task.n_answer)):
        s = naive_sum(questions, i, k)
        pair_sums = [0, 0, *(questions.x[i] + questions.y[i]).tolist()]  # of columns -2 to n - 1
        one = pair_sums[k + 1] >= base and task.carry
        two = pair_sums[k + 1] + (pair_sums[k] >= base) >= base and task.carry
        for name, digit in zip(means, (s, s + 1, s + one, s + two), strict=True):
            digits[name][i, k] = digit % base
    for name, digit in digits.items():
        assert means[name].tolist() == pytest.approx(
            p.gather(2, digit[:, :, None])[:, :, 0].mean(0).tolist(), abs=1e-12
        )
    for k in range(task.n_answer):
        table = naive_sums.confusion(p, questions, k)
        for true in range(base):
            cases = [p[i, k, :base] for i in range(count) if questions.answer[i, k] == true]
            expected = (
                torch.stack(cases).mean(0)
                if cases
                else torch.full((base,), float("nan"), dtype=p.dtype)
            )
            assert torch.allclose(table[true], expected, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("depth", [1, 2])
def test_an_observer_that_does_not_see_the_second_pair_does_not_move_with_it(depth):
    """Twins differ in the second pair's carry alone; who sees it moves by its whole certainty."""
    task = AdditionTask(4)
    made, none = carry_twins(task, 3, 2, 50, torch.Generator().manual_seed(0))

    def odds(questions):
        pair_sum = questions.x + questions.y
        carries = pair_sum[:, 2] >= 10
        if depth == 2:
            carries = carries | ((pair_sum[:, 2] == 9) & (pair_sum[:, 1] >= 10))
        p = torch.full((50, task.n_answer, task.d_vocab), 1e-9, dtype=torch.float64)
        s = pair_sum[:, 3] % 10
        p[torch.arange(50), 3, s] = torch.where(carries, 0.1, 0.9).double()
        p[torch.arange(50), 3, (s + 1) % 10] = torch.where(carries, 0.9, 0.1).double()
        return naive_sums.carry_log_odds(p.log(), questions)[:, 3]

    moved = odds(made) - odds(none)
    expected = 0.0 if depth == 1 else 2 * math.log(9)
    assert moved.tolist() == pytest.approx([expected] * 50, abs=1e-6)
