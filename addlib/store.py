"""Files of trained runs: named by content, written whole or not at all, locked, and refused when
damaged or foreign.

A run lives in ``<cache>/<name>-<key>/``, where the key is a hash of everything that determines its
weights. Every file is safetensors (never pickle) and carries the key and a digest of its tensors,
so that each can be checked on its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addlib.files import held, write_whole

FORMAT = "addlib-1"


REMEDY = "free some space or set ADDLIB_CACHE to a folder on another disk, then run again"


class CheckpointError(RuntimeError):
    """A file that must not be used; the message names it, says what is wrong, and what to do."""


def cache_dir() -> Path:
    """Where trained runs live: the environment variable ``ADDLIB_CACHE``, or ``~/.cache/addlib``."""
    return (
        Path(os.environ.get("ADDLIB_CACHE") or Path.home() / ".cache" / "addlib")
        .expanduser()
        .resolve()
    )


def key_of(description: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that identify a description (plain JSON values), independent of the
    order of keys.
    """
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:12]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        name: readable part of the folder's name.
        description: plain JSON values that determine the run's weights; their hash is the key.
        root: the cache folder; default :func:`cache_dir`.
    """

    name: str
    description: Mapping[str, Any]
    root: Path

    @property
    def key(self) -> str:
        return key_of(self.description)

    @property
    def path(self) -> Path:
        return self.root / f"{self.name}-{self.key}"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process; another process that asks waits, and says so."""
        return held(self.path, f"is training {self.path.name}")

    def write(self, file: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors (any device) to ``file`` in this folder, whole or not at all."""
        from safetensors.torch import save

        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        marks = {"format": FORMAT, "key": self.key, "sha256": _digest(on_cpu)}
        write_whole(self.path / file, save(on_cpu, metadata=marks), REMEDY)

    def read(self, file: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """All tensors of ``file``, on the CPU, after every check has passed.

        Args:
            file: a name in this folder.
            like: tensors whose names, shapes and dtypes the file must have, if given.

        Raises:
            CheckpointError: the file is missing, truncated, altered, of another run, or not ours.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path / file
        if not path.is_file():
            raise self._refuse(file, "is missing")
        try:
            with safe_open(path, framework="pt") as opened:
                marks = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict
        except (SafetensorError, OSError) as error:
            raise self._refuse(file, f"is damaged ({error})") from error
        if marks.get("format") != FORMAT:
            raise self._refuse(file, "was not written by addlib")
        if marks.get("key") != self.key:
            raise self._refuse(
                file, f"belongs to another run (key {marks.get('key')}, expected {self.key})"
            )
        if marks.get("sha256") != _digest(tensors):
            raise self._refuse(file, "was altered after it was written (its checksum differs)")
        if like is not None and (
            {n: (t.shape, t.dtype) for n, t in tensors.items()}
            != {n: (t.shape, t.dtype) for n, t in like.items()}
        ):
            raise self._refuse(
                file, "holds tensors of other names, shapes or types than this model's"
            )
        return tensors

    def _refuse(self, file: str, fault: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path / file} {fault}. Nothing was loaded. Delete the folder {self.path} and "
            f"run again to retrain."
        )

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Mark the run as finished, with its description and a record of how it was made."""
        text = json.dumps({"key": self.key, "description": self.description, **record}, indent=1)
        write_whole(self.path / "run.json", text.encode(), REMEDY)

    def record(self) -> dict[str, Any] | None:
        """The record of a finished run, or None if it has not finished.

        Raises:
            CheckpointError: the record can't be read, or its description has another key.
        """
        path = self.path / "run.json"
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text())
            recorded_key = key_of(record["description"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._refuse("run.json", "is damaged") from error
        if recorded_key != self.key:
            raise self._refuse("run.json", "describes another run")
        return record
