"""Training the addition model, with every metric recorded at every step and no copy to the host in
between.

What is recorded at each training step: losses by digit and by sub-task, gradient norm, learning
rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_whole, check_within
from addlib.device import choose_device, with_smaller_batches
from addlib.models.addition import ModelConfig, answer_logits, answer_nll, build_model
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, aligned_weights, covers
from addlib.store import RunFolder, cache_dir
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import training_questions, uniform_questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


TRAINING_VERSION = 3
"""Raised whenever the same configuration would train to other weights; part of every run's key.

It says nothing of what is recorded: histories are read by name.
"""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run. The defaults are those of Quirke & Barez's public notebook
    at 5,000 steps.

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
        whole = {
            "steps": 1,
            "batch_size": 1,
            "warmup_steps": 1,
            "enrich_every": 0,
            "dataset_size": 0,
        }
        whole |= {"snapshot_every": 1, "seed": 0}
        check_whole(self, whole)
        check_within(
            self, dict.fromkeys(("lr", "beta1", "beta2", "enrich_share", "final_lr_share"), (0, 1))
        )
        check_within(self, {"weight_decay": (0, 10)})
        if self.dataset_size and (self.enrich_every or self.dataset_size < self.batch_size):
            raise ValueError(
                f"dataset_size = {self.dataset_size} with enrich_every = {self.enrich_every}, "
                f"batch_size = "
                f"{self.batch_size}: must be 0 or at least batch_size, and is not enriched "
                f"(enrich_every = 0)"
            )
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision = {self.precision!r}: must be 'fp32' or 'bf16'")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: a linear warm-up, then a straight line to the
        final share.
        """
        done = step / max(1, self.steps - 1)
        return (
            self.lr
            * min(1.0, (step + 1) / self.warmup_steps)
            * (1 - (1 - self.final_lr_share) * done)
        )

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"training_version": TRAINING_VERSION, **asdict(self)}
        name = f"add-n{self.task.n_digits}-b{self.task.base}-l{self.model.n_layers}-h{self.model.n_heads}-s{self.steps}"
        return RunFolder(name, description, cache_dir())

    def build(self, device: str = "cpu") -> TransformerBridge:
        """The untrained model."""
        return build_model(self.model, self.task, self.seed, device)

    def trainer(self, device: str = "auto") -> Trainer:
        """A training at its beginning."""
        return Trainer(self, device)

    def empty_history(self, steps: int) -> History:
        """A history of so many steps, to be filled."""
        return History.empty(self.task, steps)


def training_state(trainer: Any) -> dict[str, Tensor]:
    """Step, history, weights and what AdamW remembers of each, under names that
    :func:`restore_training` reads.

    Args:
        trainer: has ``step``, ``history``, ``weights`` by name, ``optimizer`` and ``device``.
    """
    state = {"step": torch.tensor(trainer.step)}
    state |= {f"history.{name}": value for name, value in trainer.history.tensors().items()}
    for name, p in trainer.weights.items():
        state[f"weights.{name}"] = p.detach()
        state |= {f"adam.{key}.{name}": value for key, value in trainer.optimizer.state[p].items()}
    return state


def restore_training(trainer: Any, state: Mapping[str, Tensor]) -> None:
    """Put a :func:`training_state` back, in place; a metric that it lacks stays empty."""
    trainer.step = int(state["step"])
    for name, value in trainer.history.tensors().items():
        value.copy_(state.get(f"history.{name}", value))
    with torch.no_grad():
        for name, p in trainer.weights.items():
            p.copy_(state[f"weights.{name}"])
            trainer.optimizer.state[p] = {
                key: state[f"adam.{key}.{name}"].to(trainer.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }


class Trainer:
    """One training in progress: model, optimiser, question stream and history, all on one device."""

    def __init__(self, config: TrainConfig, device: str = "auto") -> None:
        self.config, self.device, self.step = config, choose_device(device), 0
        self.batch_size = (
            config.batch_size
        )  # questions at once, fewer than in a step where the GPU has no memory
        self.model = config.build(str(self.device))
        if covers(config.model):
            self.weights = aligned_weights(self.model)
            self.forward = FastForward(self.weights, config.model, config.task)
        else:
            self.weights = weights(self.model)
            self.forward = partial(answer_logits, self.model, config.task)
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.dataset = uniform_questions(config.task, config.dataset_size, self.generator)
        self.history = History.empty(config.task, config.steps, self.device)

    @property
    def done(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.config.steps

    def train_step(self) -> None:
        """Draw a batch, take one optimiser step, record its metrics. Nothing waits for the device."""
        config, questions = self.config, self._batch()
        nll = self._gradients(questions)
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.weights.values()])
        lr = config.lr_at(self.step)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.history.record(self.step, nll, questions, grad_norm, lr)
        self.step += 1

    def _gradients(self, questions: Questions) -> Float[Tensor, "batch n_answer"]:
        """Put the gradient of the mean loss on the weights; the losses."""

        def in_parts(size: int) -> Float[Tensor, "batch n_answer"]:
            self.optimizer.zero_grad()
            count = len(questions)
            if size >= count:
                return self._part(questions, 1.0)
            parts = [questions[start : start + size] for start in range(0, count, size)]
            return torch.cat([self._part(part, len(part) / count) for part in parts])

        nll, self.batch_size = with_smaller_batches(in_parts, self.batch_size)
        return nll

    def _part(self, questions: Questions, share: float) -> Float[Tensor, "part n_answer"]:
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = self.forward(questions.tokens)
        nll = answer_nll(logits, questions.answer)
        (nll.mean() * share).backward()
        return nll.detach()

    def _batch(self) -> Questions:
        config = self.config
        if config.dataset_size:
            order = torch.randperm(
                config.dataset_size, generator=self.generator, device=self.device
            )
            return self.dataset[order[: config.batch_size]]
        return training_questions(
            config.task,
            config.batch_size,
            self.step,
            self.generator,
            config.enrich_every,
            config.enrich_share,
        )

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as if never stopped."""
        return training_state(self) | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`."""
        self.generator.set_state(state["generator"])
        restore_training(self, state)


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
