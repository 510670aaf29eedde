"""How well a model answers: many questions in bounded memory, split by class, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.batches import in_batches
from addlib.fastpath import FastForward, covers
from addlib.history import answer_nll
from addlib.model import ModelConfig, answer_logits, weights
from addlib.readout import FastReadout
from addlib.task import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Hook = tuple[str, Callable[..., Tensor]]
"""A TransformerLens forward hook: the hook point's name, and a function of its activation."""


@dataclass(frozen=True)
class Answers:
    """A model's answers to a batch of questions, digit by digit, teacher-forced on the true answer.

    A question is right when every digit is the model's most likely one. Writing the answer token by
    token, always the most likely, is right for exactly the same questions: up to a first mistake
    both see the same tokens.
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


READOUT_FROM = 10_000
"""From this many questions on, one-layer models answer through :class:`addlib.readout.FastReadout`.
"""


@torch.no_grad()
def answer(
    model: TransformerBridge,
    config: ModelConfig,
    questions: Questions,
    batch_size: int = 512,
    hooks: Sequence[Hook] = (),
    progress: bool = False,
) -> Answers:
    """The model's answers to ``questions``, ``batch_size`` at a time, fewer where a GPU has no
    memory for so many.

    One-layer models take the exact short forward. From :data:`READOUT_FROM` questions on they
    answer through a shorter one, which is exact for the digits that are not a clear case: see
    :mod:`addlib.readout`. Answers are the same, mean losses to 1 in 1,000.

    With TransformerLens ``hooks`` (of :mod:`addlib.ablation`, or your own) the library's own
    forward runs with them.

    Raises:
        ValueError: no questions, or a batch size below 1.
    """
    task, device = questions.task, next(model.parameters()).device
    short = covers(config) and not hooks
    forward = (
        FastForward(weights(model), config, task) if short else partial(answer_logits, model, task)
    )
    many = len(questions) >= READOUT_FROM
    if many and short and not config.attn_only:
        spread = torch.arange(1024) * len(questions) // 1024  # questions may come sorted by kind
        forward = FastReadout(forward, questions[spread].tokens.to(device))
    digits = torch.empty(len(questions), task.n_answer, dtype=torch.int64)
    nll = torch.empty(len(questions), task.n_answer)

    def answer_batch(rows: slice) -> None:
        part = questions[rows]
        logits = forward(part.tokens.to(device))
        digits[rows] = logits.argmax(-1).cpu()
        nll[rows] = answer_nll(logits, part.answer.to(device)).float().cpu()

    with model.hooks(fwd_hooks=list(hooks)) if hooks else nullcontext():
        in_batches(answer_batch, len(questions), batch_size, progress and many)
    return Answers(questions, digits, nll)


def bootstrap_interval(
    values: Float[Tensor, " sample"], confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979): how far it moves when the sample is
    drawn again.

    Raises:
        ValueError: an empty sample, or a confidence outside (0, 1).
    """
    if len(values) == 0 or not 0 < confidence < 1:
        raise ValueError(
            f"{len(values)} values at confidence = {confidence!r}: must be at least 1, and in (0, "
            f"1)"
        )
    generator = torch.Generator().manual_seed(seed)
    means = torch.stack(
        [
            values[torch.randint(len(values), (len(values),), generator=generator)].double().mean()
            for _ in range(draws)
        ]
    )
    low, high = means.quantile(
        torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    )
    return float(low), float(high)


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), e.g. 92 of 100 → (0.850, 0.959).

    Raises:
        ValueError: counts that are no proportion, or a confidence outside (0, 1).
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"{successes} successes in {trials} trials: must be 0 ≤ successes ≤ trials, trials ≥ 1"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: must be in (0, 1)")
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
