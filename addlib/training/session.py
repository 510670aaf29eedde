"""What one process leaves of a training in the run's folder: snapshots, a way back, a record."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from addlib import __version__
from addlib.device import device_name, out_of_memory
from addlib.files import write_whole
from addlib.store import CheckpointError, RunFolder

RESUME = "resume.safetensors"
"""The file of an unfinished training from which it goes on."""

SESSIONS = "sessions.json"
"""The file of an unfinished training that says which processes did its steps."""


def snapshot_file(steps: int) -> str:
    """The file of the weights after so many steps."""
    return f"weights-{steps:06d}.safetensors"


def resume_step(folder: RunFolder) -> int:
    """After how many steps an unfinished training goes on; 0 where it starts."""
    if not (folder.path / RESUME).is_file():
        return 0
    return int(folder.read(RESUME)["step"])


def restore_from(folder: RunFolder, restore: Any) -> None:
    """Call ``restore`` with the state that an unfinished training goes on from.

    Raises:
        CheckpointError: another version wrote it.
    """
    state = folder.read(RESUME)
    try:
        restore(state)
    except (KeyError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise CheckpointError(
            f"{folder.path / RESUME} can't be continued: another version of addlib wrote it "
            f"({error}). Delete this file and run again; the training then starts anew."
        ) from error


@dataclass
class Session:
    """The steps that this process does of a training.

    Args:
        folder: the run's.
        device: where it trains.
        threads: of the CPU.
        way: how steps are taken: "eager", "graph", or "stacked of 8", which is a graph, too.
        first: the number of steps that were done before.
    """

    folder: RunFolder
    device: torch.device
    threads: int
    way: str
    first: int
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        file = self.folder.path / SESSIONS
        self.earlier: list[dict[str, Any]] = []
        if self.first and file.is_file():
            sessions = json.loads(file.read_bytes())
            self.earlier = [
                session | {"to_step": min(session["to_step"], self.first)} for session in sessions
            ]

    def sessions(self, step: int) -> list[dict[str, Any]]:
        """All sessions so far, this one up to a step."""
        return [
            *self.earlier,
            {
                "from_step": self.first,
                "to_step": step,
                "seconds": round(time.perf_counter() - self.started, 1),
                "device": device_name(self.device),
                "threads": self.threads,
                "way": self.way,
                "torch": torch.__version__,
            },
        ]

    def say_resumed(self, steps: int) -> None:
        """Print that the training goes on, and where."""
        said = f"Resuming {self.folder.path.name} from step {self.first} of {steps}."
        print(said, file=sys.stderr, flush=True)  # as progress is: no result, and not in the book

    def snapshot(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights after a step."""
        self.folder.write(snapshot_file(step), weights)

    def keep_state(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep what the training goes on from after a step."""
        write_whole(self.folder.path / SESSIONS, json.dumps(self.sessions(step)).encode())
        self.folder.write(RESUME, state)

    def finish(self, step: int, history: Mapping[str, Tensor]) -> None:
        """Keep the history and the record, after the last snapshot: the run is done."""
        self.folder.write("history.safetensors", history)
        sessions = self.sessions(step)
        self.folder.write_record(
            {
                "steps": step,
                "seconds": round(sum(session["seconds"] for session in sessions), 1),
                "device": ", then ".join(dict.fromkeys(session["device"] for session in sessions)),
                "sessions": sessions,
                "versions": {"addlib": __version__, "torch": torch.__version__},
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        (self.folder.path / RESUME).unlink(missing_ok=True)
        (self.folder.path / SESSIONS).unlink(missing_ok=True)
