"""Training the addition model, with every metric recorded at every step and no copy to the host in between."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addlib import __version__
from addlib.checkpoints import RunFolder, cache_dir
from addlib.fastpath import FastForward, aligned_weights, covers
from addlib.history import History, answer_nll
from addlib.model import ModelConfig, answer_logits, build_model, choose_device, device_name, weights
from addlib.sampling import training_questions
from addlib.task import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TRAINING_VERSION = 3
"""Raised whenever the same configuration would train to other weights; part of every run's key."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run. The defaults are those of Quirke & Barez's public notebook at 5,000 steps.

    Args:
        task, model: what is learned, and by which shape of transformer.
        steps, batch_size: optimiser steps, and questions in each; every step draws new questions.
        lr, weight_decay, beta1, beta2: AdamW.
        warmup_steps: the learning rate rises linearly over these steps.
        final_lr_share: from there on it moves linearly to this share of ``lr`` at the last step; 1 keeps it constant.
        enrich_every, enrich_share: each ``enrich_every``-th batch has this share of its cells turned into sums of
            B - 1; ``enrich_every = 0`` never does.
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
    snapshot_every: int = 500
    precision: str = "fp32"
    seed: int = 129000

    def __post_init__(self) -> None:
        whole = {"steps": 1, "batch_size": 1, "warmup_steps": 1, "enrich_every": 0, "snapshot_every": 1, "seed": 0}
        for name, least in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} = {value!r}: must be a whole number of at least {least}")
        ranges = {"lr": (0, 1), "weight_decay": (0, 10), "beta1": (0, 1), "beta2": (0, 1)}
        ranges |= {"enrich_share": (0, 1), "final_lr_share": (0, 1)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            open_low, open_high = name == "lr", name.startswith("beta")
            inside = (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
            if not inside:
                interval = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
                raise ValueError(f"{name} = {value!r}: must be in {interval}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision = {self.precision!r}: must be 'fp32' or 'bf16'")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: a linear warm-up, then a straight line to the final share."""
        done = step / max(1, self.steps - 1)
        return self.lr * min(1.0, (step + 1) / self.warmup_steps) * (1 - (1 - self.final_lr_share) * done)

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"training_version": TRAINING_VERSION, **asdict(self)}
        name = f"add-n{self.task.n_digits}-b{self.task.base}-l{self.model.n_layers}-h{self.model.n_heads}-s{self.steps}"
        return RunFolder(name, description, cache_dir())


class Trainer:
    """One training in progress: model, optimiser, question stream and history, all on one device."""

    def __init__(self, config: TrainConfig, device: str = "auto") -> None:
        self.config, self.device, self.step = config, choose_device(device), 0
        self.model = build_model(config.model, config.task, config.seed, str(self.device))
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
        self.history = History.empty(config.task, config.steps, self.device)

    def train_step(self) -> None:
        """Draw a batch, take one optimiser step, record its metrics. Nothing waits for the device."""
        config = self.config
        questions = training_questions(
            config.task, config.batch_size, self.step, self.generator, config.enrich_every, config.enrich_share
        )
        low_precision = (
            torch.autocast(self.device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()
        )
        with low_precision:
            logits = self.forward(questions.tokens)
        nll = answer_nll(logits, questions.answer)
        self.optimizer.zero_grad()
        nll.mean().backward()
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.weights.values()])
        lr = config.lr_at(self.step)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.history.record(self.step, nll.detach(), questions, grad_norm, lr)
        self.step += 1

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as if never stopped."""
        state = {f"weights.{name}": p.detach() for name, p in self.weights.items()}
        for name, p in self.weights.items():
            state |= {f"adam.{key}.{name}": value for key, value in self.optimizer.state[p].items()}
        state |= {f"history.{name}": value for name, value in self.history.tensors().items()}
        return state | {"generator": self.generator.get_state(), "step": torch.tensor(self.step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`."""
        self.step = int(state["step"])
        self.generator.set_state(state["generator"])
        with torch.no_grad():
            for name, p in self.weights.items():
                p.copy_(state[f"weights.{name}"])
                self.optimizer.state[p] = {
                    "step": state[f"adam.step.{name}"].to(self.device),
                    "exp_avg": state[f"adam.exp_avg.{name}"].to(self.device),
                    "exp_avg_sq": state[f"adam.exp_avg_sq.{name}"].to(self.device),
                }
        for name, value in self.history.tensors().items():
            value.copy_(state[f"history.{name}"])


@dataclass(frozen=True)
class Run:
    """A finished training: its configuration, the trained model, the recorded history and how it was made."""

    config: TrainConfig
    model: TransformerBridge
    history: History
    record: dict[str, Any]

    @property
    def snapshot_steps(self) -> list[int]:
        """Numbers of steps after which weights were kept; the first is 0 (untrained), the last is all steps."""
        return _snapshot_steps(self.config)

    def snapshot(self, steps: int) -> dict[str, Tensor]:
        """The weights after ``steps`` steps; ValueError lists the kept ones."""
        if steps not in self.snapshot_steps:
            raise ValueError(f"steps = {steps}: weights were kept after {self.snapshot_steps}")
        return self.config.folder.read(_snapshot_file(steps), like=weights(self.model))

    def model_at(self, steps: int) -> TransformerBridge:
        """A new model on the trained model's device with the weights after ``steps`` steps."""
        device = str(next(self.model.parameters()).device)
        model = build_model(self.config.model, self.config.task, self.config.seed, device)
        _set_weights(model, self.snapshot(steps))
        return model


def _snapshot_steps(config: TrainConfig) -> list[int]:
    return [*range(0, config.steps, config.snapshot_every), config.steps]


def _snapshot_file(steps: int) -> str:
    return f"weights-{steps:06d}.safetensors"


def _set_weights(model: TransformerBridge, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in weights(model).items():
            p.copy_(values[name])
    model.eval()


def load_or_train(config: TrainConfig | None = None, device: str = "auto", progress: bool = True) -> Run:
    """The finished run of this configuration, from the cache or by training it now.

    Two processes that ask for the same run train it once; an interrupted run goes on from its last snapshot and ends,
    on the same device, in the same weights as one that was never interrupted.

    Raises:
        CheckpointError: a cached file is damaged or foreign. Nothing of it is used.
        ValueError: the device isn't there.
    """
    config = config or TrainConfig()
    folder, where = config.folder, choose_device(device)
    if folder.record() is None:
        with folder.lock():
            if folder.record() is None:
                _train(config, str(where), progress)
    record = folder.record()
    model = build_model(config.model, config.task, config.seed, str(where))
    final = folder.read(_snapshot_file(config.steps), like=weights(model))
    history = History(**folder.read("history.safetensors", like=History.empty(config.task, config.steps).tensors()))
    _set_weights(model, final)
    return Run(config, model, history, record)


def _train(config: TrainConfig, device: str, progress: bool) -> None:
    """Train to the end, writing a snapshot and a resume file at each stride, then the record that marks the end."""
    from tqdm import tqdm

    folder, trainer = config.folder, Trainer(config, device)
    if (folder.path / "resume.safetensors").is_file():
        trainer.restore(folder.read("resume.safetensors"))
        print(f"Resuming {folder.path.name} from step {trainer.step} of {config.steps}.", flush=True)
    else:
        folder.write(_snapshot_file(0), weights(trainer.model))
    first, started = trainer.step, time.perf_counter()
    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=config.steps,
        initial=first,
        desc=folder.name,
        unit="step",
        mininterval=0.5 if terminal else 10.0,
        dynamic_ncols=terminal,
        disable=not progress,
    )
    with bar:
        while trainer.step < config.steps:
            trainer.train_step()
            if trainer.step % 25 == 0:
                bar.set_postfix_str(f"loss {trainer.history.loss[trainer.step - 1].item():.4f}", refresh=False)
            bar.update()
            if trainer.step % config.snapshot_every == 0 and trainer.step < config.steps:
                folder.write(_snapshot_file(trainer.step), weights(trainer.model))
                folder.write("resume.safetensors", trainer.state())
    folder.write(_snapshot_file(config.steps), weights(trainer.model))
    folder.write("history.safetensors", trainer.history.tensors())
    folder.write_record(
        {
            "steps_in_this_session": config.steps - first,
            "seconds": round(time.perf_counter() - started, 1),
            "device": device_name(trainer.device),
            "threads": torch.get_num_threads(),
            "versions": {"addlib": __version__, "torch": torch.__version__},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    (folder.path / "resume.safetensors").unlink(missing_ok=True)


RUNS = {"main": TrainConfig()}
"""Runs that several chapters share, by name."""


def main() -> None:
    """Command line: ``python -m addlib.training main --stamp FILE`` trains a shared run and notes where it is."""
    parser = argparse.ArgumentParser(description="Train a shared run of the book, or find it in the cache.")
    parser.add_argument("name", choices=sorted(RUNS))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--stamp", type=Path, help="JSON file to write when the run is there")
    arguments = parser.parse_args()
    run = load_or_train(RUNS[arguments.name], arguments.device)
    if arguments.stamp:
        arguments.stamp.parent.mkdir(parents=True, exist_ok=True)
        note = {"name": arguments.name, "folder": run.config.folder.path.name, **run.record}
        arguments.stamp.write_text(json.dumps(note, indent=1))
    print(
        f"{arguments.name}: loss {run.history.loss[-100:].mean():.4f} over the last 100 steps, {run.record['device']}"
    )


if __name__ == "__main__":
    main()
