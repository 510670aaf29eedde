"""What a model answers: many questions in bounded memory, digit by digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.device import in_batches, memory_for
from addlib.models.addition import answer_logits
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, covers
from addlib.models.fast_answers import FastReadout
from addlib.stats import answer_nll
from addlib.tasks.addition import Questions
from addlib.tasks.sampling import above_cascade

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


BATCH_SIZE = {"cpu": 512, "cuda": 16_384}
"""Questions that are answered at once where nothing else is said, by the kind of device."""

READOUT_FROM = 10_000
"""From this many questions on, one-layer models answer through :class:`FastReadout`."""


@torch.no_grad()
def answer(
    model: TransformerBridge,
    questions: Questions,
    hooks: Sequence[Hook] = (),
    batch_size: int | None = None,
    progress: bool = False,
) -> Answers:
    """The model's answers to ``questions``, ``batch_size`` at a time or what there is memory for.

    Without ``batch_size`` it is 512 on a CPU, whose caches are small, and 16,384 on a GPU.

    One-layer models take the exact short forward. From :data:`READOUT_FROM` questions on they
    answer through a shorter one, which is exact for the digits that are not a clear case: see
    :mod:`addlib.models.fast_answers`. Answers are the same, mean losses to 1 in 1,000.

    With TransformerLens ``hooks`` (of :mod:`addlib.analysis.ablation`, or your own) the library's
    own forward runs with them.

    Digits and losses are on the CPU, so the questions must be, too. On a GPU they are labelled and
    compared there, and come back at the end.

    Raises:
        ValueError: no questions, or a batch size below 1.
    """
    task = questions.task
    device = next(model.parameters()).device
    many = len(questions) >= READOUT_FROM
    forward: Callable[[Tensor], Tensor] = partial(answer_logits, model, task)
    if covers(model.cfg) and not hooks:
        forward = short = FastForward(weights(model), model.cfg, task)
        if many and not model.cfg.attn_only:
            spread = torch.arange(1024) * len(questions) // 1024  # they may come sorted by kind
            with memory_for("a sample of 1,024 questions"):
                forward = FastReadout(short, questions[spread].tokens.to(device))
    if batch_size is None:
        batch_size = BATCH_SIZE[device.type]
    asked = questions if device.type == "cpu" else questions.to(device)
    digits = asked.x.new_empty(len(asked), task.n_answer)
    nll = torch.empty(len(asked), task.n_answer, device=device)

    def answer_batch(rows: slice) -> None:
        part = asked[rows]
        logits = forward(part.tokens)
        digits[rows] = logits.argmax(-1)
        nll[rows] = answer_nll(logits, part.answer).float()

    with model.hooks(fwd_hooks=list(hooks)) if hooks else nullcontext():
        in_batches(answer_batch, len(questions), batch_size, progress and many)
    return Answers(questions, digits.cpu(), nll.cpu())


@torch.no_grad()
def write_out(
    model: TransformerBridge,
    questions: Questions,
    hooks: Sequence[Hook] = (),
    batch_size: int = 4096,
) -> Int[Tensor, "batch n_answer"]:
    """The digits that a model writes when it reads back its own, by column, on the CPU.

    The loop knows nothing of addition: the most likely token is appended, again and again. It runs
    the library's own forward, with TransformerLens ``hooks`` where there are any.
    """
    task = questions.task
    device = next(model.parameters()).device
    written = torch.empty(len(questions), task.n_answer, dtype=torch.int64)

    def write_batch(rows: slice) -> None:
        tokens = questions.tokens[rows, : task.answer_positions.start + 1].to(device)
        for _ in range(task.n_answer):
            following = model(tokens)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, following], 1)
        written[rows] = task.by_column(tokens[:, -task.n_answer :]).cpu()

    with model.hooks(fwd_hooks=list(hooks)) if hooks else nullcontext():
        in_batches(write_batch, len(questions), batch_size)
    return written


# ---------------------------------------------------------------- mistakes with carries
def carry_slips(
    answers: Answers,
) -> tuple[Bool[Tensor, "batch n_answer"], Bool[Tensor, "batch n_answer"]]:
    """Digits that lost a carry (one too low), and digits that invented one (one too high).

    Modulo the base: a lost carry makes 9 of 0.
    """
    base = answers.questions.task.base
    off = (answers.digits - answers.questions.answer) % base
    carry = answers.questions.carry
    return (off == base - 1) & carry, (off == 1) & ~carry


def first_mistake(answers: Answers) -> Int[Tensor, " batch"]:
    """Column of the first wrong digit written, counted up from the one just above the cascade.

    0 is just above each question's longest cascade, -1 the cascade's top column. A question that
    is right has no meaning here.
    """
    n = answers.questions.task.n_answer
    top = n - 1 - (~answers.digit_right).flip(1).long().argmax(1)
    return top - above_cascade(answers.questions)
