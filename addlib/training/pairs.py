"""Training on pairs: the whole training set at every step, AdamW, and the exact short forward that
makes it quick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_whole, check_within
from addlib.device import choose_device
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
from addlib.training.addition import restore_training, training_state

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


PAIR_TRAINING_VERSION = 1
"""Raised whenever the same configuration would train to other weights; part of every run's key."""


@dataclass(frozen=True)
class PairConfig:
    """Everything that determines a run on pairs. The defaults are the small task without
    wrap-around.

    Args:
        task, model: what is learned, and by which shape of transformer.
        share: of all pairs, for training.
        data_seed, seed: of the split, and of the initial weights.
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

    def __post_init__(self) -> None:
        check_whole(
            self,
            {
                "data_seed": 0,
                "seed": 0,
                "epochs": 1,
                "snapshot_every": 1,
                "test_every": 1,
                "stop_for": 1,
            },
        )
        check_within(
            self, {"lr": (0, 1), "weight_decay": (0, 10), "beta1": (0, 1), "beta2": (0, 1)}
        )
        if not isinstance(self.biases, bool):
            raise ValueError(f"biases = {self.biases!r}: must be True or False")
        if self.stop_below is not None and not self.stop_below > 0:
            raise ValueError(f"stop_below = {self.stop_below!r}: must be None or above 0")
        split(self.task, self.share, self.data_seed)

    @property
    def steps(self) -> int:
        """Most optimiser steps, one an epoch."""
        return self.epochs

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"pair_training_version": PAIR_TRAINING_VERSION, **asdict(self)}
        name = f"pairs-p{self.task.p}-{'mod' if self.task.modular else 'sum'}-s{self.epochs}"
        return RunFolder(name, description, cache_dir())

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
    """What was recorded; entry t is of the weights after t epochs, so there is one more entry than
    epochs.

    Losses are means of -log p(right answer) in nats. Tests are NaN at epochs where nothing was
    tested: see :attr:`tested`. An accuracy is the share of pairs whose largest logit is the right
    one.
    """

    loss: Float[Tensor, " epochs_and_1"]  # of the training pairs
    weight_norm: Float[Tensor, " epochs_and_1"]  # sum of squares of all weights
    accuracy: Float[
        Tensor, " epochs_and_1"
    ]  # of the training pairs, measured together with the tests
    test_loss: Float[Tensor, " epochs_and_1"]
    test_accuracy: Float[Tensor, " epochs_and_1"]

    @classmethod
    def empty(cls, epochs: int, device: torch.device | str = "cpu") -> PairHistory:
        size = (epochs + 1,)
        return cls(
            **{
                f.name: torch.full(size, float("nan"), dtype=torch.float64, device=device)
                for f in fields(cls)
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def until(self, epochs: int) -> PairHistory:
        """The history of the first so many epochs."""
        return PairHistory(**{name: value[: epochs + 1] for name, value in self.tensors().items()})

    @property
    def tested(self) -> Int[Tensor, " tests"]:
        """Epochs after which the held-out pairs were measured."""
        return (~self.test_accuracy.isnan()).nonzero()[:, 0]


class PairTrainer:
    """One training on pairs in progress: model, optimiser, both sets and history, all on one
    device.
    """

    def __init__(self, config: PairConfig, device: str = "auto") -> None:
        self.config, self.device, self.step, self.done = config, choose_device(device), 0, False
        self.model = config.build(str(self.device))
        every = weights(self.model)
        self.forward = PairForward(every, config.model, config.task)
        self.weights = {name: p for name, p in every.items() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        pairs = config.task.pairs()
        sides = [pairs[side] for side in split(config.task, config.share, config.data_seed)]
        self.train, self.test = (side.to(self.device) for side in sides)
        self.train_answers, self.test_answers = (
            config.task.answers(side) for side in (self.train, self.test)
        )
        self.history = PairHistory.empty(config.epochs, self.device)

    def train_step(self) -> None:
        """Measure, then take one optimiser step; after the last one, measure once more. Waits only
        for tests.
        """
        logits, gradient = self._measure(tests=self.step % self.config.test_every == 0)
        self.optimizer.zero_grad()
        logits.backward(gradient)
        self.optimizer.step()
        self.done = self.step + 1 >= self.config.epochs or self._rests()
        self.step += 1
        if self.done:
            self._measure(tests=True)
            self.history = self.history.until(self.step)

    def _measure(self, tests: bool) -> tuple[Tensor, Tensor]:
        history, t = self.history, self.step
        logits = self.forward(self.train)
        history.loss[t], gradient = loss_and_gradient(logits, self.train_answers)
        history.weight_norm[t] = torch.nn.utils.get_total_norm(
            [p.detach() for p in self.weights.values()]
        ).square()
        if tests:
            history.accuracy[t] = accuracy(logits, self.train_answers)
            with torch.no_grad():
                held_out = self.forward(self.test)
            history.test_loss[t] = loss_and_gradient(held_out, self.test_answers)[0]
            history.test_accuracy[t] = accuracy(held_out, self.test_answers)
        return logits, gradient

    def _rests(self) -> bool:
        """Whether the stop rule holds; looked at where a test was just made."""
        config, t = self.config, self.step
        if config.stop_below is None or t < config.stop_for or t % config.test_every:
            return False
        recent = self.history.test_loss[t - config.stop_for : t + 1]
        return bool((recent[~recent.isnan()] < config.stop_below).all())

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as if never stopped."""
        return training_state(self)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`."""
        restore_training(self, state)
