"""Training on pairs: the whole training set at every step, AdamW, and the exact short forward."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_choice, check_whole, check_within
from addlib.models.bridge import weights
from addlib.models.pairs import (
    PairForward,
    PairModelConfig,
    accuracy,
    build_pair_model,
    loss_and_gradient,
)
from addlib.store import RunFolder, cache_dir
from addlib.tasks.pairs import PairTask, split
from addlib.training.trainer import BaseTrainer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PAIR_TRAINING_VERSION = 1
"""Raised whenever the same configuration would train to other weights; part of every run's key."""


@dataclass(frozen=True)
class PairConfig:
    """Everything that determines a run on pairs; by default the small task, no wrap-around.

    Args:
        task, model: what is learned, and by which shape of transformer.
        share: of all pairs, for training.
        data_seed, seed: of the split, and of the initial weights.
        unordered: whether a pair and its mirror image are on one side of the split.
        epochs: most steps; each sees every training pair.
        lr, weight_decay, beta1, beta2: AdamW, at a constant learning rate.
        biases: False freezes every bias at 0.
        snapshot_every: epochs between saved weights, from which an interrupted run resumes.
        test_every: epochs between measurements on the held-out pairs.
        stop_below, stop_for: training ends once the test loss was below ``stop_below`` nats at
            every measurement of ``stop_for`` epochs in a row; None never stops early.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    task: PairTask = field(default_factory=PairTask)
    model: PairModelConfig = field(default_factory=PairModelConfig)
    share: float = 0.72
    data_seed: int = 598
    seed: int = 999
    epochs: int = 5000
    lr: float = 1e-3
    weight_decay: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.98
    biases: bool = False
    snapshot_every: int = 100
    test_every: int = 10
    stop_below: float | None = None
    stop_for: int = 500
    unordered: bool = False

    def __post_init__(self) -> None:
        check_whole(self, 0, "data_seed", "seed")
        check_whole(self, 1, "epochs", "snapshot_every", "test_every", "stop_for")
        check_within(self, "(0, 1]", "lr")
        check_within(self, "[0, 1)", "beta1", "beta2")
        check_within(self, "[0, 10]", "weight_decay")
        check_choice(self, (True, False), "biases", "unordered")
        if self.stop_below is not None and not self.stop_below > 0:
            raise ValueError(f"stop_below = {self.stop_below!r}: must be None or above 0")
        # refuses a share that leaves one side empty
        split(self.task, self.share, self.data_seed, self.unordered)

    @property
    def steps(self) -> int:
        """Most optimiser steps, one an epoch."""
        return self.epochs

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"pair_training_version": PAIR_TRAINING_VERSION, **asdict(self)}
        if not self.unordered:
            del description["unordered"]  # keys of splits of ordered pairs are without it
        name = f"pairs-p{self.task.p}-{'mod' if self.task.modular else 'sum'}-s{self.epochs}"
        return RunFolder(name, description, cache_dir())

    def sides(self) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
        """Numbers of the training pairs and of those held out."""
        return split(self.task, self.share, self.data_seed, self.unordered)

    def build(self, device: str = "cpu") -> TransformerBridge:
        """The untrained model."""
        return build_pair_model(self.model, self.task, self.seed, device, self.biases)

    def trainer(self, device: str = "auto") -> PairTrainer:
        """A training at its beginning."""
        return PairTrainer(self, device)

    def empty_history(self, steps: int) -> PairHistory:
        """A history of so many epochs, to be filled."""
        return PairHistory.empty(steps)


@dataclass(frozen=True)
class PairHistory:
    """What was recorded; entry t is of the weights after t epochs, from 0 to the last.

    Losses are means of -log p(right answer) in nats. Tests are NaN at epochs where nothing was
    tested: see :attr:`tested`. An accuracy is the share of pairs whose largest logit is the right
    one.
    """

    loss: Float[Tensor, " epochs_and_1"]  # of the training pairs
    weight_norm: Float[Tensor, " epochs_and_1"]  # sum of squares of all weights
    accuracy: Float[Tensor, " epochs_and_1"]  # of the training pairs, where tested
    test_loss: Float[Tensor, " epochs_and_1"]
    test_accuracy: Float[Tensor, " epochs_and_1"]

    @classmethod
    def empty(cls, epochs: int, device: torch.device | str = "cpu") -> PairHistory:
        """A history of so many epochs, NaN, to be filled."""
        shape = (len(fields(cls)), epochs + 1)
        metrics = torch.full(shape, float("nan"), dtype=torch.float64, device=device)
        return cls(*(values.clone() for values in metrics))

    def tensors(self) -> dict[str, Tensor]:
        """The metrics by name."""
        return dict(vars(self))

    def until(self, epochs: int) -> PairHistory:
        """The history of the first so many epochs."""
        return PairHistory(*(values[: epochs + 1] for values in self.tensors().values()))

    @property
    def tested(self) -> Int[Tensor, " tests"]:
        """Epochs after which the held-out pairs were measured."""
        return (~self.test_accuracy.isnan()).nonzero()[:, 0]

    def first_right(
        self, accuracy: Float[Tensor, " epochs_and_1"], share: float = 0.99
    ) -> int | None:
        """First tested epoch after which this share of the pairs is right; None if there is none.

        Args:
            accuracy: :attr:`accuracy` or :attr:`test_accuracy`.
        """
        good = self.tested[accuracy[self.tested] >= share]
        return int(good[0]) if len(good) else None


class PairTrainer(BaseTrainer):
    """A training on pairs in progress, with both sets."""

    config: PairConfig

    def __init__(self, config: PairConfig, device: str = "auto") -> None:
        super().__init__(config, device)
        values = weights(self.model)
        self.optimise({name: p for name, p in values.items() if p.requires_grad})
        task = config.task
        self.forward = PairForward(values, config.model, task)
        train, test = config.sides()
        self.train_pairs = task.pairs()[train].to(self.device)
        self.test_pairs = task.pairs()[test].to(self.device)
        self.rows = len(self.train_pairs)
        self.train_answers = task.answers(self.train_pairs)
        self.test_answers = task.answers(self.test_pairs)
        self.history = PairHistory.empty(config.epochs, self.device)
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether all epochs were taken, or the stop rule ended the training."""
        return self._ended

    def train_step(self) -> None:
        """Measure, then take one optimiser step; after the last one, measure once more.

        It waits for the device at tests only.
        """
        logits, gradient = self._measure(tests=self.step % self.config.test_every == 0)
        self.optimizer.zero_grad()
        logits.backward(gradient)
        self.optimizer.step()
        self._ended = self.step + 1 >= self.config.epochs or self._rests()
        self.step += 1
        if self.done:
            self._measure(tests=True)
            self.history = self.history.until(self.step)

    def _measure(self, tests: bool) -> tuple[Tensor, Tensor]:
        """Record the metrics of the weights as they are; the logits and the loss's gradient."""
        history = self.history
        t = self.step
        logits = self.forward(self.train_pairs)
        history.loss[t], gradient = loss_and_gradient(logits, self.train_answers)
        trained = [p.detach() for p in self.weights.values()]
        history.weight_norm[t] = torch.nn.utils.get_total_norm(trained).square()
        if tests:
            history.accuracy[t] = accuracy(logits, self.train_answers)
            with torch.no_grad():
                held_out = self.forward(self.test_pairs)
            history.test_loss[t] = loss_and_gradient(held_out, self.test_answers)[0]
            history.test_accuracy[t] = accuracy(held_out, self.test_answers)
        return logits, gradient

    def _rests(self) -> bool:
        """Whether the stop rule holds; looked at where a test was just made."""
        config = self.config
        t = self.step
        if config.stop_below is None or t < config.stop_for or t % config.test_every:
            return False
        recent = self.history.test_loss[t - config.stop_for : t + 1]
        return bool((recent[~recent.isnan()] < config.stop_below).all())
