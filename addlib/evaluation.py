"""How well a model answers: many questions in bounded memory, split by class, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.fastpath import FastForward, covers
from addlib.history import answer_nll
from addlib.model import ModelConfig, answer_logits, weights
from addlib.task import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Answers:
    """A model's answers to a batch of questions, digit by digit, teacher-forced on the true answer.

    A question is right when every digit is the model's most likely one. Writing the answer token by token, always the
    most likely, is right for exactly the same questions: up to a first mistake both see the same tokens.
    """

    questions: Questions
    digits: Int[Tensor, "batch n_answer"]
    nll: Float[Tensor, "batch n_answer"]  # nats

    @property
    def digit_right(self) -> Bool[Tensor, "batch n_answer"]:
        return self.digits == self.questions.answer

    @property
    def right(self) -> Bool[Tensor, " batch"]:
        return self.digit_right.all(1)


@torch.no_grad()
def answer(model: TransformerBridge, config: ModelConfig, questions: Questions, batch_size: int = 4096) -> Answers:
    """The model's answers to ``questions``, ``batch_size`` at a time.

    Raises:
        ValueError: no questions, or a batch size below 1.
    """
    if len(questions) == 0 or batch_size < 1:
        raise ValueError(f"{len(questions)} questions with batch_size = {batch_size}: both must be at least 1")
    task = questions.task
    forward = FastForward(weights(model), config, task) if covers(config) else partial(answer_logits, model, task)
    device = next(model.parameters()).device
    digits, nll = [], []
    for tokens, true in zip(questions.tokens.split(batch_size), questions.answer.split(batch_size), strict=True):
        logits = forward(tokens.to(device))
        digits.append(logits.argmax(-1).cpu())
        nll.append(answer_nll(logits, true.to(device)).float().cpu())
    return Answers(questions, torch.cat(digits), torch.cat(nll))


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), e.g. 92 of 100 → (0.850, 0.959).

    Raises:
        ValueError: counts that are no proportion, or a confidence outside (0, 1).
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials: must be 0 ≤ successes ≤ trials, trials ≥ 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: must be in (0, 1)")
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
