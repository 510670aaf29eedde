"""Finished runs: from the cache or trained now, one or many, resumed where they were interrupted."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from addlib import __version__
from addlib.analysis.answers import Answers, Hook, answer
from addlib.device import REMEDY, choose_device, device_name
from addlib.files import write_whole
from addlib.models.bridge import weights
from addlib.store import RunFolder
from addlib.tasks.addition import Questions
from addlib.tasks.pairs import PairTask
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class RunConfig(Protocol):
    """What a configuration must offer so that its run can be made and found: see
    :class:`TrainConfig`.

    A history is a dataclass of tensors with a ``loss`` for each step. A trainer has ``model``,
    ``history``, ``device``, ``step`` and ``done``, and the methods ``train_step``, ``state`` and
    ``restore``.
    """

    steps: int  # most steps; a trainer may be done earlier
    snapshot_every: int

    @property
    def folder(self) -> RunFolder: ...

    def build(self, device: str = ...) -> TransformerBridge: ...

    def trainer(self, device: str = ...) -> Any: ...

    def empty_history(self, steps: int) -> Any: ...


@dataclass(frozen=True)
class Run:
    """A finished training: its configuration, the trained model, the recorded history and how it
    was made.
    """

    config: Any  # a RunConfig
    model: TransformerBridge
    history: Any  # what the configuration's empty_history is filled to
    record: dict[str, Any]

    @property
    def steps(self) -> int:
        """Steps that were taken: all of the configuration's, or fewer where its stop rule ended the
        training.
        """
        return _steps_taken(self.config, self.record)

    @property
    def snapshot_steps(self) -> list[int]:
        """Numbers of steps after which weights were kept; the first is 0 (untrained), the last is
        all steps.
        """
        return [*range(0, self.steps, self.config.snapshot_every), self.steps]

    def snapshot(self, steps: int) -> dict[str, Tensor]:
        """The weights after ``steps`` steps; ValueError lists the kept ones."""
        if steps not in self.snapshot_steps:
            raise ValueError(f"steps = {steps}: weights were kept after {self.snapshot_steps}")
        return self.config.folder.read(_snapshot_file(steps), like=weights(self.model))

    def model_at(self, steps: int) -> TransformerBridge:
        """A new model on the trained model's device with the weights after ``steps`` steps."""
        device = str(next(self.model.parameters()).device)
        model = self.config.build(device)
        _set_weights(model, self.snapshot(steps))
        return model

    def answer(
        self,
        questions: Questions,
        hooks: Sequence[Hook] = (),
        batch_size: int = 512,
        progress: bool = False,
    ) -> Answers:
        """The trained model's answers, of an addition run: :func:`addlib.analysis.answers.answer`."""
        return answer(self.model, questions, hooks, batch_size, progress)

    def stacked_snapshots(self, every: int = 1) -> dict[str, Float[Tensor, "checkpoint ..."]]:
        """Weights by name at each ``every``-th of :attr:`snapshot_steps`, on the CPU, for work on
        many at once.
        """
        kept = [self.snapshot(steps) for steps in self.snapshot_steps[::every]]
        return {name: torch.stack([weights[name] for weights in kept]) for name in kept[0]}


def _steps_taken(config: RunConfig, record: dict[str, Any]) -> int:
    return record.get("steps", config.steps)


def _snapshot_file(steps: int) -> str:
    return f"weights-{steps:06d}.safetensors"


def _set_weights(model: TransformerBridge, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in weights(model).items():
            p.copy_(values[name])
    model.eval()


def _read_history(folder: RunFolder, empty: Any) -> Any:
    """The recorded history, by name: a metric that was not recorded yet is NaN, counts too."""
    recorded = folder.read("history.safetensors", like=empty.tensors(), by_name=True)
    missing = {
        name: torch.full_like(
            values, math.nan, dtype=torch.promote_types(values.dtype, torch.float)
        )
        for name, values in empty.tensors().items()
        if name not in recorded
    }
    return replace(empty, **recorded, **missing)


def load_or_train(
    config: RunConfig | None = None, device: str = "auto", progress: bool = True
) -> Run:
    """The finished run of this configuration (the book's main one by default), from the cache or by
    training it now.

    Two processes that ask for the same run train it once; an interrupted run goes on from its last
    snapshot and ends, on the same device, in the same weights as one that was never interrupted.

    Raises:
        CheckpointError: a cached file is damaged or foreign. Nothing of it is used.
        ValueError: the device isn't there.
    """
    config = config or TrainConfig()
    folder, where = config.folder, choose_device(device)
    _train_if_missing(config, device, progress)
    record = folder.record()
    steps = _steps_taken(config, record)
    model = config.build(str(where))
    _set_weights(model, folder.read(_snapshot_file(steps), like=weights(model)))
    return Run(config, model, _read_history(folder, config.empty_history(steps)), record)


def load_or_train_all(
    configs: Sequence[RunConfig], device: str = "auto", progress: bool = True
) -> list[Run]:
    """The finished runs of several configurations, in their order; what is missing is trained now.

    Small models don't keep several cores busy, so on a CPU the missing ones are trained side by
    side, a process each, which share the cores evenly. On a GPU they are trained one after another.

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
        for _ in tqdm(
            done, total=len(missing), desc="training", unit="model", disable=not progress
        ):
            pass
    return [load_or_train(config, device, progress) for config in configs]


def _train_if_missing(config: RunConfig, device: str, progress: bool = False) -> None:
    folder = config.folder
    if folder.record() is None:
        with folder.lock():
            if folder.record() is None:
                try:
                    _train(config, str(choose_device(device)), progress)
                except torch.OutOfMemoryError as error:
                    advice = f"{REMEDY}; the training then goes on from its last saved step"
                    raise torch.OutOfMemoryError(
                        f"no GPU memory to train {folder.name}: {advice} ({error})"
                    ) from error


def _train(config: RunConfig, device: str, progress: bool) -> None:
    """Train to the end, writing a snapshot and a resume file at each stride, then the record that
    marks the end.
    """
    from tqdm import tqdm

    folder, trainer = config.folder, config.trainer(device)
    if (folder.path / "resume.safetensors").is_file():
        trainer.restore(folder.read("resume.safetensors"))
        print(
            f"Resuming {folder.path.name} from step {trainer.step} of {config.steps}.", flush=True
        )
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
        while not trainer.done:
            trainer.train_step()
            if trainer.step % 25 == 0:
                bar.set_postfix_str(
                    f"loss {trainer.history.loss[trainer.step - 1].item():.4g}", refresh=False
                )
            bar.update()
            if trainer.step % config.snapshot_every == 0 and not trainer.done:
                folder.write(_snapshot_file(trainer.step), weights(trainer.model))
                folder.write("resume.safetensors", trainer.state())
    folder.write(_snapshot_file(trainer.step), weights(trainer.model))
    folder.write("history.safetensors", trainer.history.tensors())
    folder.write_record(
        {
            "steps": trainer.step,
            "steps_in_this_session": trainer.step - first,
            "seconds": round(time.perf_counter() - started, 1),
            "device": device_name(trainer.device),
            "threads": torch.get_num_threads(),
            "versions": {"addlib": __version__, "torch": torch.__version__},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    (folder.path / "resume.safetensors").unlink(missing_ok=True)


RUNS: dict[str, RunConfig] = {
    "main": TrainConfig(),
    "grokking": PairConfig(
        PairTask(113, modular=True), share=0.3, seed=1001, epochs=40_000, stop_below=1e-6
    ),
}
"""Runs that several chapters share, by name."""


def main() -> None:
    """Command line: ``python -m addlib.training.runs main --stamp FILE`` trains a shared run and notes where
    it is.
    """
    parser = argparse.ArgumentParser(
        description="Train a shared run of the book, or find it in the cache."
    )
    parser.add_argument("name", choices=sorted(RUNS))
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument("--stamp", type=Path, help="JSON file to write when the run is there")
    arguments = parser.parse_args()
    run = load_or_train(RUNS[arguments.name], arguments.device)
    if arguments.stamp:
        note = {"name": arguments.name, "folder": run.config.folder.path.name, **run.record}
        write_whole(arguments.stamp, json.dumps(note, indent=1).encode())
    print(
        f"{arguments.name}: loss {run.history.loss[-100:].mean():.4g} over the last 100 of "
        f"{run.steps} steps, "
        f"{run.record['device']}"
    )


if __name__ == "__main__":
    main()
