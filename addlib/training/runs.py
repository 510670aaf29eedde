"""Finished runs: from the cache or trained now, and resumed where they were interrupted."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from addlib.device import choose_device, memory_for
from addlib.files import write_whole
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward
from addlib.store import CheckpointError, RunFolder, sha256
from addlib.tasks.addition import Questions
from addlib.tasks.pairs import PairTask
from addlib.training.addition import History, TrainConfig
from addlib.training.opened import FromFile
from addlib.training.pairs import PairConfig, PairHistory
from addlib.training.released import fetch
from addlib.training.session import Session, restore_from, resume_step, snapshot_file
from addlib.training.together import train_together
from addlib.unknown import NO_TRAINING, LeftOut, Unknown
from addlib.usage import used

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

RunConfig = TrainConfig | PairConfig

STEPS_PER_REPORT = 25
"""Training steps between two looks at the loss for the progress bar."""

MAIN = TrainConfig()
"""The book's main model."""

GROKKING = PairConfig(
    PairTask(113, modular=True), share=0.3, seed=1001, epochs=40_000, stop_below=1e-6
)
"""The model of chapter 11."""

RUNS: dict[str, RunConfig] = {"main": MAIN, "grokking": GROKKING}
"""Runs that several chapters share, by name."""


@dataclass(frozen=True)
class Run:
    """A finished training: its configuration, trained model and history, and how it was made."""

    config: RunConfig
    model: TransformerBridge
    history: History | PairHistory
    record: dict[str, Any]

    @property
    def steps(self) -> int:
        """Steps that were taken: the configuration's, or fewer where its stop rule ended it."""
        return _steps_taken(self.config, self.record)

    @property
    def file(self) -> str:
        """The first digits of the hash of the file that it is from; empty for the book's own."""
        return self.config.file if isinstance(self.config, FromFile) else ""

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the file that holds the last weights."""
        return sha256(self.config.folder.path / snapshot_file(self.steps))

    @property
    def device(self) -> torch.device:
        """Where the model is now, whatever it was trained on (``record["device"]``)."""
        return next(self.model.parameters()).device

    @property
    def snapshot_steps(self) -> list[int]:
        """Numbers of steps after which weights were kept, from 0 (untrained) to all steps."""
        return [*range(0, self.steps, self.config.snapshot_every), self.steps]

    def snapshot(self, steps: int) -> dict[str, Tensor]:
        """The weights after ``steps`` steps; ValueError lists the kept ones."""
        if steps not in self.snapshot_steps:
            raise ValueError(f"steps = {steps}: weights were kept after {self.snapshot_steps}")
        return self.config.folder.read(snapshot_file(steps), like=weights(self.model))

    def model_at(self, steps: int) -> TransformerBridge:
        """A new model on the trained model's device with the weights after ``steps`` steps."""
        model = self.config.build(str(self.device))
        _set_weights(model, self.snapshot(steps))
        return model

    def stacked_snapshots(self, every: int = 1) -> dict[str, Float[Tensor, "checkpoint ..."]]:
        """Weights by name at each ``every``-th of :attr:`snapshot_steps`, stacked, on the CPU."""
        snapshots = [self.snapshot(steps) for steps in self.snapshot_steps[::every]]
        return {name: torch.stack([values[name] for values in snapshots]) for name in snapshots[0]}

    def uniform_loss(self) -> Float[np.ndarray, "steps n_answer"]:
        """Loss of each answer digit at each step, nats; NaN where the batch was enriched."""
        assert isinstance(self.config, TrainConfig)
        assert isinstance(self.history, History)
        losses = self.history.digit_loss.numpy().copy()
        every = self.config.enrich_every
        if every:
            losses[every - 1 :: every] = np.nan
        return losses

    @torch.no_grad()
    def answer_logits(
        self, questions: Questions, *steps: int
    ) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits after so many steps; given several, those of the mean of their weights.

        For one-layer addition models. In double precision, on the CPU, as the questions must be.
        """
        assert isinstance(self.config, TrainConfig)
        kept = [self.snapshot(at) for at in steps]
        mean = {name: torch.stack([w[name].cpu() for w in kept]).mean(0) for name in kept[0]}
        short = FastForward(mean, self.config.model, self.config.task)
        return torch.cat([short(part) for part in questions.tokens.split(1000)]).double()


class FileRun(Run):
    """A model from a state dict, as a run of which nothing but its last weights is known."""

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the state dict's file."""
        assert isinstance(self.config, FromFile)
        return self.config.source.sha256

    @property
    def steps(self) -> int:
        """Unknown; it may be asked for the weights after so many steps."""
        return self.record["steps"]

    @property
    def snapshot_steps(self) -> list[int]:
        """Raises LeftOut: there is the last state only."""
        raise LeftOut(NO_TRAINING)

    def snapshot(self, steps: int) -> dict[str, Tensor]:
        """The model's weights for its own unknown number of steps, and fresh ones for 0."""
        if isinstance(steps, Unknown):
            return {name: p.detach().clone() for name, p in weights(self.model).items()}
        if steps != 0:
            raise LeftOut(NO_TRAINING)
        fresh = weights(self.config.build(str(self.device)))
        return {name: p.detach() for name, p in fresh.items()}


def load_or_train(
    config: RunConfig = RUNS["main"], device: str = "auto", progress: bool = True
) -> Run:
    """The finished run of this configuration, from the cache or by training it now.

    Two processes that ask for the same run train it once; an interrupted run goes on from its last
    saved state and ends, on the same device, in the same weights as one that was never interrupted.
    A configuration from :func:`addlib.training.opened.open_model` opens its file.

    Raises:
        CheckpointError: a cached file is damaged or foreign. Nothing of it is used.
        ValueError: the device isn't there.
    """
    chosen = choose_device(device)
    if isinstance(config, FromFile) and config.source.state is not None:
        nothing: Any = Unknown(NO_TRAINING, "an unknown number of")
        model = config.source.state.build(str(chosen))
        return FileRun(config, model, nothing, {"steps": nothing})
    folder = config.folder
    _train_missing([config], device, progress)
    record = folder.record()
    assert record is not None  # it was just made
    steps = _steps_taken(config, record)
    model = config.build(str(chosen))
    _set_weights(model, folder.read(snapshot_file(steps), like=weights(model)))
    return Run(config, model, _read_history(folder, config.empty_history(steps)), record)


def load_or_train_all(
    configs: Sequence[RunConfig], device: str = "auto", progress: bool = True
) -> list[Run]:
    """The finished runs of several configurations, in their order; what is missing is trained now.

    Small models don't keep several cores busy, so on a CPU the missing ones are trained side by
    side, a process each, which share the cores evenly. On a GPU those of one shape take their steps
    together: see :mod:`addlib.training.together`.

    Raises:
        CheckpointError, ValueError: as :func:`load_or_train`.
    """
    from joblib import Parallel, cpu_count, delayed
    from tqdm import tqdm

    missing = _missing(configs)
    workers = min(cpu_count(), len(missing))
    if choose_device(device).type == "cuda":
        _train_missing(missing, device, progress)
    elif workers > 1:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        trained = Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(_train_if_missing)(config, device) for config in missing
        )
        bar = tqdm(trained, "training", len(missing), unit="model", disable=not progress)
        for _ in bar:
            pass
    return [load_or_train(config, device, progress) for config in configs]


# ------------------------------------------------------------------ files of a run
def _steps_taken(config: RunConfig, record: dict[str, Any]) -> int:
    return record.get("steps", config.steps)


def _set_weights(model: TransformerBridge, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in weights(model).items():
            p.copy_(values[name])
    model.eval()


def _read_history(folder: RunFolder, empty: History | PairHistory) -> History | PairHistory:
    """The recorded history, by name: a metric that was not recorded is NaN, counts too."""
    recorded = folder.read("history.safetensors", like=empty.tensors(), by_name=True)
    missing = {
        name: torch.full_like(
            values, math.nan, dtype=torch.promote_types(values.dtype, torch.float)
        )
        for name, values in empty.tensors().items()
        if name not in recorded
    }
    return type(empty)(**recorded, **missing)


# ------------------------------------------------------------------------- training
def is_there(config: RunConfig) -> bool:
    """Whether a run needs no training: it is in the cache, or its model in a file."""
    return isinstance(config, FromFile) or config.folder.record() is not None


def _missing(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """What must be trained: the cache lacks it, and nobody has released it."""
    lacking = [config for config in dict.fromkeys(configs) if not is_there(config)]
    return [config for config in lacking if not fetch(config.folder)]


def _train_missing(configs: Sequence[RunConfig], device: str, progress: bool) -> None:
    """Train what the cache lacks: together on a GPU, else one after another."""
    missing = _missing(configs)
    if missing and choose_device(device).type == "cuda":
        missing = train_together(missing, device, progress)
    for config in missing:
        _train_if_missing(config, device, progress)


def _train_if_missing(config: RunConfig, device: str, progress: bool = False) -> None:
    folder = config.folder
    if folder.record() is not None:
        return
    with folder.lock():
        if folder.record() is not None:  # another process made it meanwhile
            return
        resumed = f"the training of {folder.name} then continues from its last saved step"
        with memory_for("a training step", then=resumed):
            _train(config, device, progress)


def _train(config: RunConfig, device: str, progress: bool) -> None:
    """Train to the end, with a snapshot and a resume file every ``snapshot_every`` steps."""
    from tqdm import tqdm

    trainer = config.trainer(device)
    if resume_step(config.folder):
        restore_from(config.folder, trainer.restore)
    session = Session(config.folder, trainer.device, trainer.threads, "eager", trainer.step)
    if trainer.step:
        session.say_resumed(config.steps)
    else:
        session.snapshot(0, weights(trainer.model))
    is_terminal = sys.stderr.isatty()
    bar = tqdm(
        total=config.steps,
        initial=trainer.step,
        desc=config.folder.name,
        unit="step",
        mininterval=0.5 if is_terminal else 10.0,
        dynamic_ncols=is_terminal,
        disable=not progress,
    )
    with bar:
        while not trainer.done:
            before = trainer.step
            to_snapshot = config.snapshot_every - before % config.snapshot_every
            trainer.train(min(STEPS_PER_REPORT, to_snapshot))
            if progress:
                loss = trainer.history.loss[trainer.step - 1].item()
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                bar.update(trainer.step - before)
            if trainer.step % config.snapshot_every == 0 and not trainer.done:
                session.snapshot(trainer.step, weights(trainer.model))
                session.keep_state(trainer.step, trainer.state())
    session.snapshot(trainer.step, weights(trainer.model))
    session.finish(trainer.step, trainer.history.tensors())


# ------------------------------------------------------------------- command line
def main() -> None:
    """Train a shared run: ``python -m addlib.training.runs main --stamp FILE``."""
    parser = argparse.ArgumentParser(
        description="Train a shared run of the book, or find it in the cache."
    )
    parser.add_argument("name", choices=sorted(RUNS))
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument("--stamp", type=Path, help="JSON file to write when the run is there")
    arguments = parser.parse_args()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        run = load_or_train(RUNS[arguments.name], arguments.device)
    except (CheckpointError, ValueError, OSError, torch.OutOfMemoryError) as error:
        sys.exit(f"error: {arguments.name} was not trained: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{arguments.name}: stopped; its training goes on from its last saved step.")
    if arguments.stamp:
        note = {"name": arguments.name, "folder": run.config.folder.path.name, "started": started}
        note |= run.record | used()
        write_whole(arguments.stamp, json.dumps(note, indent=1).encode())
    loss = run.history.loss[-100:].mean()
    print(
        f"{arguments.name}: loss {loss:.4g} over the last 100 of {run.steps} steps, "
        f"{run.record['device']}"
    )


if __name__ == "__main__":
    main()
