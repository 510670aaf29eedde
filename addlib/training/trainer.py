"""What the trainings of both tasks have in common: AdamW, and a state from which they resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from addlib.device import choose_device, limited_threads

SMALL_STEP = 3e8
"""Rows times parameters of a step below which a second thread waits longer than it works.

Measured on a quiet machine of two cores, where the lines cross between 3e8 and 8e8.
"""


class BaseTrainer(ABC):
    """A training in progress, on one device: ``step`` steps of it are done.

    A subclass calls :meth:`optimise` with the tensors that are trained, sets a ``history``, a
    dataclass of tensors, and has ``train_step``, ``done``, and ``rows``, the number of rows that a
    step's matrix products have.
    """

    history: Any
    rows: int

    def __init__(self, config: Any, device: str) -> None:
        self.config = config
        self.device = choose_device(device)
        self.model = config.build(str(self.device))
        self.step = 0

    def optimise(self, weights: Mapping[str, Tensor]) -> None:
        """Train these tensors, given by name, with the configuration's AdamW."""
        config = self.config
        self.weights = weights
        self.optimizer = torch.optim.AdamW(
            weights.values(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def threads(self) -> int:
        """Threads of the CPU that train: 1 for a small model, else as many as torch may use.

        So a small model's weights don't depend on the number of a machine's cores.
        """
        parameters = sum(p.numel() for p in self.weights.values())
        return 1 if self.rows * parameters < SMALL_STEP else torch.get_num_threads()

    def train(self, steps: int | None = None) -> None:
        """Take so many steps, or all that are left."""
        last = None if steps is None else self.step + steps
        with limited_threads(self.threads):
            while not self.done and self.step != last:
                self.train_step()

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is no step left to take."""

    @abstractmethod
    def train_step(self) -> None:
        """Take one optimiser step and record its metrics."""

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as if never stopped."""
        state = {"step": torch.tensor(self.step)}
        for name, values in self.history.tensors().items():
            state[f"history.{name}"] = values
        for name, p in self.weights.items():
            state[f"weights.{name}"] = p.detach()
            for key, value in self.optimizer.state[p].items():
                state[f"adam.{key}.{name}"] = value
        return state

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a :meth:`state`; a metric that was not recorded there stays empty."""
        self.step = int(state["step"])
        for name, values in self.history.tensors().items():
            values.copy_(state.get(f"history.{name}", values))
        for name, p in self.weights.items():
            p.copy_(state[f"weights.{name}"])
            self.optimizer.state[p] = {
                key: state[f"adam.{key}.{name}"].to(self.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
