"""What is recorded at each training step: losses by digit and by sub-task, gradient norm, learning
rate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.task import BUCKETS, AdditionTask, Questions


@dataclass(frozen=True)
class History:
    """What was recorded at each step; losses in nats, as batch means of -log p(true digit).
    Columns: units first.
    """

    loss: Float[Tensor, " steps"]
    digit_loss: Float[Tensor, "steps n_answer"]
    bucket_loss: Float[Tensor, "steps n_digits bucket"]  # NaN where a batch has no case
    bucket_count: Int[Tensor, "steps n_digits bucket"]
    grad_norm: Float[Tensor, " steps"]
    lr: Float[Tensor, " steps"]

    @classmethod
    def empty(cls, task: AdditionTask, steps: int, device: torch.device | str = "cpu") -> History:
        n = task.n_digits
        nan = {"fill_value": float("nan"), "device": device}
        return cls(
            loss=torch.full((steps,), **nan),
            digit_loss=torch.full((steps, n + 1), **nan),
            bucket_loss=torch.full((steps, n, len(BUCKETS)), **nan),
            bucket_count=torch.zeros(steps, n, len(BUCKETS), dtype=torch.int32, device=device),
            grad_norm=torch.full((steps,), **nan),
            lr=torch.full((steps,), **nan),
        )

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def record(
        self, step: int, nll: Tensor, questions: Questions, grad_norm: Tensor, lr: float
    ) -> None:
        """Store one step; ``nll`` is (batch, n_answer), by column. Stays on the device."""
        self.loss[step] = nll.mean()
        self.digit_loss[step] = nll.mean(0)
        member = F.one_hot(questions.bucket, len(BUCKETS))  # (batch, n_digits, bucket)
        count = member.sum(0)
        self.bucket_count[step] = count
        self.bucket_loss[step] = (member * nll[:, : questions.task.n_digits, None]).sum(0) / count
        self.grad_norm[step] = grad_norm
        self.lr[step] = lr


def answer_nll(
    logits: Float[Tensor, "batch n_answer d_vocab"], answer: Int[Tensor, "batch n_answer"]
) -> Float[Tensor, "batch n_answer"]:
    """-log p of each true answer digit, in nats; the softmax is taken in float64."""
    flat = F.cross_entropy(logits.double().flatten(0, 1), answer.flatten(), reduction="none")
    return flat.view(answer.shape)
