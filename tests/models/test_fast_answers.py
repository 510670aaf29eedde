"""The folded readout against the exact short forward: same answers, same mean loss, on a model that
was trained.
"""

from dataclasses import replace

import pytest
import torch

from addlib.analysis import answers
from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward
from addlib.models.fast_answers import FastReadout
from addlib.stats import answer_nll
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train

pytestmark = pytest.mark.depends_on()

CONFIG = TrainConfig(
    AdditionTask(3), ModelConfig(width=240), steps=400, lr=1e-3, snapshot_every=400
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A half-trained model for each order of writing: many right answers, many close calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADDLIB_CACHE", str(tmp_path_factory.mktemp("weights")))
        return {
            order: load_or_train(
                replace(CONFIG, task=AdditionTask(3, answer_order=order)), "cpu", progress=False
            )
            for order in ("msd", "lsd")
        }


@pytest.mark.parametrize("answer_order", ["msd", "lsd"])
def test_many_answers_are_the_exact_forwards(runs, answer_order, monkeypatch):
    run = runs[answer_order]
    questions = uniform_questions(run.config.task, 20_000, torch.Generator().manual_seed(1))
    many = answers.answer(run.model, questions)
    monkeypatch.setattr(answers, "READOUT_FROM", 10**9)
    exact = answers.answer(run.model, questions)
    assert 0.2 < exact.right.float().mean() < 0.99
    assert torch.equal(many.digits, exact.digits)
    assert not torch.equal(many.nll, exact.nll)  # it did take the other way
    assert many.nll.mean().item() == pytest.approx(exact.nll.mean().item(), rel=1e-3)


def test_the_estimated_divisor_is_close_and_digits_with_a_small_lead_are_exact(runs):
    run = runs["msd"]
    forward = FastForward(weights(run.model), run.config.model, run.config.task)
    sample, tokens = (
        uniform_questions(run.config.task, 2000, torch.Generator().manual_seed(seed)).tokens
        for seed in (2, 3)
    )
    readout = FastReadout(forward, sample)
    with torch.no_grad():
        exact, given = forward(tokens), readout(tokens)
    safe_lead, readout.safe_lead = readout.safe_lead, float("-inf")  # no digit is looked at again
    estimated = readout(tokens)
    readout.safe_lead = safe_lead
    ratio = (estimated - readout.shift).norm(dim=-1) / (exact - readout.shift).norm(dim=-1)
    assert (ratio - 1).abs().max() < 0.05 and (ratio - 1).square().mean().sqrt() < 0.01
    # the directions are exact
    assert torch.allclose(
        (estimated - readout.shift) / ratio[..., None], exact - readout.shift, atol=1e-3
    )
    top = exact.sort(-1).values
    unsafe = (top[..., -1] - top[..., -2]) < readout.safe_lead
    assert torch.equal(readout.unsafe(exact), unsafe) and 0.01 < unsafe.float().mean() < 0.99
    again = readout.unsafe(estimated)
    assert torch.allclose(given[again], exact[again], atol=1e-3)
    assert torch.equal(given[~again], estimated[~again])


def test_a_wrong_divisor_changes_no_answer_but_is_seen_in_the_loss(runs):
    """The answer does not hang on the estimate: with σ off by a fifth it is still the exact
    forward's.
    """
    run = runs["msd"]
    forward = FastForward(weights(run.model), run.config.model, run.config.task)
    questions = uniform_questions(run.config.task, 2000, torch.Generator().manual_seed(4))
    readout = FastReadout(forward, questions.tokens)
    right = readout._square
    readout._square = lambda projected: 1.44 * right(projected)
    with torch.no_grad():
        exact, given = forward(questions.tokens), readout(questions.tokens)
    assert torch.equal(given.argmax(-1), exact.argmax(-1))
    off, true = (answer_nll(logits, questions.answer).mean().item() for logits in (given, exact))
    assert off != pytest.approx(true, rel=1e-3)
