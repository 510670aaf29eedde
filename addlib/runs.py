"""Finished runs: from the cache or trained now, one or many, resumed where they were interrupted."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addlib import __version__
from addlib.history import History
from addlib.model import build_model, choose_device, device_name, weights
from addlib.training import TrainConfig, Trainer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


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
    _train_if_missing(config, device, progress)
    record = folder.record()
    model = build_model(config.model, config.task, config.seed, str(where))
    final = folder.read(_snapshot_file(config.steps), like=weights(model))
    history = History(**folder.read("history.safetensors", like=History.empty(config.task, config.steps).tensors()))
    _set_weights(model, final)
    return Run(config, model, history, record)


def load_or_train_all(configs: Sequence[TrainConfig], device: str = "auto", progress: bool = True) -> list[Run]:
    """The finished runs of several configurations, in their order; what is missing is trained now.

    Small models don't keep several cores busy, so on a CPU the missing ones are trained side by side, a process each,
    which share the cores evenly. On a GPU they are trained one after another.

    Raises:
        CheckpointError, ValueError: as :func:`load_or_train`.
    """
    from joblib import Parallel, cpu_count, delayed
    from tqdm import tqdm

    missing = [config for config in dict.fromkeys(configs) if config.folder.record() is None]
    workers = min(cpu_count(), len(missing)) if choose_device(device).type == "cpu" else 1
    if workers > 1:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        done = Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(_train_if_missing)(config, device) for config in missing
        )
        for _ in tqdm(done, total=len(missing), desc="training", unit="model", disable=not progress):
            pass
    return [load_or_train(config, device, progress) for config in configs]


def _train_if_missing(config: TrainConfig, device: str, progress: bool = False) -> None:
    folder = config.folder
    if folder.record() is None:
        with folder.lock():
            if folder.record() is None:
                _train(config, str(choose_device(device)), progress)


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
    """Command line: ``python -m addlib.runs main --stamp FILE`` trains a shared run and notes where it is."""
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
