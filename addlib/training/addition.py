"""Training the addition model, with every metric recorded at every step.

Metrics stay on the device, so the host waits for it only to send new questions. They are drawn on
the CPU, so a seed asks the same ones on every device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_choice, check_whole, check_within
from addlib.device import with_smaller_batches
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, aligned_weights, covers
from addlib.stats import answer_nll
from addlib.store import RunFolder, cache_dir
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import joined, training_questions, uniform_questions
from addlib.training.trainer import BaseTrainer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

QUESTIONS_AHEAD = 16_384
"""Questions that are drawn at once, for the steps to come."""

TRAINING_VERSION = 4
"""Raised whenever the same configuration would train to other weights; part of every run's key.

It says nothing of what is recorded: histories are read by name.
"""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run; by default as in Quirke & Barez's public notebook.

    Args:
        task, model: what is learned, and by which shape of transformer.
        steps, batch_size: optimiser steps, and questions in each; see ``dataset_size``.
        lr, weight_decay, beta1, beta2: AdamW.
        warmup_steps: the learning rate rises linearly over these steps.
        final_lr_share: from there on it moves linearly to this share of ``lr`` at the last step; 1
            keeps it constant.
        enrich_every, enrich_share: each ``enrich_every``-th batch has this share of its cells
            turned into sums of B - 1; ``enrich_every = 0`` never does.
        dataset_size: 0 draws new questions at every step; otherwise so many uniform questions are
            drawn once, and each batch is drawn from them. They can't be enriched.
        snapshot_every: steps between saved weights, from which an interrupted run resumes.
        precision: ``"fp32"``, or ``"bf16"`` for autocast (its cost in final loss is in the README).
        seed: of the initial weights and of the questions.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    task: AdditionTask = field(default_factory=AdditionTask)
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 5000
    batch_size: int = 64
    lr: float = 8e-5
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    warmup_steps: int = 10
    final_lr_share: float = 1.0
    enrich_every: int = 5
    enrich_share: float = 0.2
    dataset_size: int = 0
    snapshot_every: int = 250
    precision: str = "fp32"
    seed: int = 129000

    def __post_init__(self) -> None:
        check_whole(self, 1, "steps", "batch_size", "warmup_steps", "snapshot_every")
        check_whole(self, 0, "enrich_every", "dataset_size", "seed")
        check_within(self, "(0, 1]", "lr")
        check_within(self, "[0, 1)", "beta1", "beta2")
        check_within(self, "[0, 1]", "enrich_share", "final_lr_share")
        check_within(self, "[0, 10]", "weight_decay")
        check_choice(self, ("fp32", "bf16"), "precision")
        if self.dataset_size and (self.enrich_every or self.dataset_size < self.batch_size):
            raise ValueError(
                f"dataset_size = {self.dataset_size} with enrich_every = {self.enrich_every}, "
                f"batch_size = {self.batch_size}: must be 0, or at least batch_size and not "
                "enriched (enrich_every = 0)"
            )

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: warm-up, and a line to the final share."""
        warm_up = min(1.0, (step + 1) / self.warmup_steps)
        done = step / max(1, self.steps - 1)
        return self.lr * warm_up * (1 - (1 - self.final_lr_share) * done)

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"training_version": TRAINING_VERSION, **asdict(self)}
        task = self.task
        model = self.model
        shape = f"n{task.n_digits}-b{task.base}-l{model.n_layers}-h{model.n_heads}"
        return RunFolder(f"add-{shape}-s{self.steps}", description, cache_dir())

    def build(self, device: str = "cpu") -> TransformerBridge:
        """The untrained model."""
        return build_model(self.model, self.task, self.seed, device)

    def trainer(self, device: str = "auto") -> Trainer:
        """A training at its beginning."""
        return Trainer(self, device)

    def empty_history(self, steps: int) -> History:
        """A history of so many steps, to be filled."""
        return History.empty(self.task, steps)


class Trainer(BaseTrainer):
    """A training in progress, with its stream of questions.

    Attributes:
        micro_batch_size: questions in memory at once; fewer than in a step where memory ran short,
            and gradients are then summed up.
    """

    config: TrainConfig

    def __init__(self, config: TrainConfig, device: str = "auto") -> None:
        super().__init__(config, device)
        if covers(config.model):
            self.optimise(aligned_weights(self.model))
            self.forward: Callable[[Tensor], Tensor] = FastForward(
                self.weights, config.model, config.task
            )
        else:
            self.optimise(weights(self.model))
            self.forward = partial(answer_logits, self.model, config.task)
        self.micro_batch_size = config.batch_size
        self.rows = config.batch_size * config.task.n_answer
        self.stream = QuestionStream(config, self.device)
        self.history = History.empty(config.task, config.steps, self.device)

    @property
    def done(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.config.steps

    def train_step(self) -> None:
        """Take one optimiser step on the next batch and record its metrics.

        The host waits for the device only where the stream draws questions ahead.
        """
        questions = next(self.stream)
        nll = self._gradients(questions)
        gradients = [p.grad for p in self.weights.values() if p.grad is not None]
        grad_norm = torch.nn.utils.get_total_norm(gradients)
        lr = self.config.lr_at(self.step)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.history.record(self.step, nll, questions, grad_norm, lr)
        self.step += 1

    def _gradients(self, questions: Questions) -> Float[Tensor, "batch n_answer"]:
        """Put the gradient of the mean loss on the weights; the losses."""

        def accumulated(size: int) -> Float[Tensor, "batch n_answer"]:
            self.optimizer.zero_grad()
            count = len(questions)
            if size >= count:
                return self._micro_batch(questions, 1.0)
            parts = [questions[start : start + size] for start in range(0, count, size)]
            return torch.cat([self._micro_batch(part, len(part) / count) for part in parts])

        nll, self.micro_batch_size = with_smaller_batches(accumulated, self.micro_batch_size)
        return nll

    def _micro_batch(
        self, questions: Questions, weight: float
    ) -> Float[Tensor, "micro_batch n_answer"]:
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = self.forward(questions.tokens)
        nll = answer_nll(logits, questions.answer)
        (nll.mean() * weight).backward()
        return nll.detach()

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"generator": self.stream.state}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        self.stream.restore(self.step, state["generator"])


class QuestionStream:
    """The batches of a training, one after another, for ever: ``next(stream)``.

    They are drawn on the CPU, :data:`QUESTIONS_AHEAD` questions at a time, and are the same on
    every device.

    Attributes:
        dataset: the questions that batches are drawn from; empty where each batch is new.
        state: of the generator, after the last batch that was given out.
    """

    def __init__(self, config: TrainConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.device = device
        self.generator = torch.Generator().manual_seed(config.seed)
        self.dataset = uniform_questions(config.task, config.dataset_size, self.generator)
        self.restore(0, self.generator.get_state())

    def restore(self, step: int, state: Tensor) -> None:
        """Continue with the batch of this step; ``state`` is the generator's before it is drawn."""
        self.generator.set_state(state)
        self.state = state
        self.step = step
        self._ahead: deque[tuple[Questions, Tensor]] = deque()

    def __iter__(self) -> QuestionStream:
        return self

    def take(self, count: int) -> Questions:
        """The questions of the next so many batches, one batch after another."""
        return joined([next(self) for _ in range(count)])

    def __next__(self) -> Questions:
        if not self._ahead:
            self._draw_ahead()
        questions, self.state = self._ahead.popleft()
        self.step += 1
        return questions

    def _draw_ahead(self) -> None:
        """Draw batches, and move and label them all at once."""
        size = self.config.batch_size
        count = max(1, QUESTIONS_AHEAD // size)
        batches = []
        states = []
        for step in range(self.step, self.step + count):
            batches.append(self._batch(step))
            states.append(self.generator.get_state())
        questions = joined(batches).to(self.device)
        for label in ("tokens", "answer", "bucket", "question_class"):
            getattr(questions, label)  # labelled here, once
        parts = [questions[start : start + size] for start in range(0, count * size, size)]
        self._ahead.extend(zip(parts, states, strict=True))

    def _batch(self, step: int) -> Questions:
        config = self.config
        count = config.batch_size
        if config.dataset_size == 0:
            enriched = (config.enrich_every, config.enrich_share)
            return training_questions(config.task, count, step, self.generator, *enriched)
        order = torch.randperm(config.dataset_size, generator=self.generator)
        return self.dataset[order[:count]]


@dataclass(frozen=True)
class History:
    """What was recorded at each step; losses in nats are batch means, columns are units first."""

    loss: Float[Tensor, " steps"]
    digit_loss: Float[Tensor, "steps n_answer"]
    bucket_loss: Float[Tensor, "steps n_digits bucket"]  # NaN where a batch has no case
    bucket_count: Int[Tensor, "steps n_digits bucket"]
    class_loss: Float[Tensor, "steps bucket"]  # by the question's class; NaN where there is none
    grad_norm: Float[Tensor, " steps"]
    lr: Float[Tensor, " steps"]

    @classmethod
    def empty(cls, task: AdditionTask, steps: int, device: torch.device | str = "cpu") -> History:
        """A history of so many steps, NaN and 0, to be filled."""
        n = task.n_digits
        step = torch.full((steps,), float("nan"), device=device)
        count = torch.zeros(steps, n, len(BUCKETS), dtype=torch.int32, device=device)
        return cls(
            loss=step.clone(),
            digit_loss=step[:, None].repeat(1, n + 1),
            bucket_loss=step[:, None, None].repeat(1, n, len(BUCKETS)),
            bucket_count=count,
            class_loss=step[:, None].repeat(1, len(BUCKETS)),
            grad_norm=step.clone(),
            lr=step.clone(),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The metrics by name."""
        return dict(vars(self))

    def record(
        self, step: int, nll: Tensor, questions: Questions, grad_norm: Tensor, lr: float
    ) -> None:
        """Store one step; ``nll`` is (batch, n_answer), by column. Stays on the device."""
        for name, value in step_metrics(nll, questions.bucket, questions.question_class).items():
            getattr(self, name)[step] = value
        self.grad_norm[step] = grad_norm
        self.lr[step].fill_(lr)  # set by index, the number would be copied to the device


def step_metrics(
    nll: Float[Tensor, "*models batch n_answer"],
    bucket: Int[Tensor, "*models batch n_digits"],
    question_class: Int[Tensor, "*models batch"],
) -> dict[str, Tensor]:
    """A step's losses by the names that they have in :class:`History`, and how often each occurs.

    Args:
        nll: the losses of the answer digits, nats, by column.
        bucket: the buckets of the cells. question_class: the classes of the questions.
    """
    member = F.one_hot(bucket, len(BUCKETS))  # (*models, batch, n_digits, bucket)
    of_class = F.one_hot(question_class, len(BUCKETS))  # (*models, batch, class)
    count = member.sum(-3)
    of_pairs = nll[..., : bucket.shape[-1], None]
    return {
        "loss": nll.mean((-2, -1)),
        "digit_loss": nll.mean(-2),
        "bucket_loss": (member * of_pairs).sum(-3) / count,
        "bucket_count": count,
        "class_loss": (of_class * nll.mean(-1, keepdim=True)).sum(-2) / of_class.sum(-2),
    }
