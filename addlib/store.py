"""The cache: folders named by content, locked while they are made, and refused when damaged.

A run lives in ``<cache>/<name>-<key>/``, where the key is a hash of everything that determines its
weights. Every file is safetensors (never pickle) and carries the key and a digest of its tensors,
so that each can be checked on its own. A folder whose files others write, like an unpacked language
model, is *sealed*: it appears whole, with a list of its files and their checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addlib.files import PACKAGE, write_whole

FORMAT = "addlib-1"

FOLDER_REMEDY = "set ADDLIB_CACHE to a folder that can be written, then run again"

DISK_REMEDY = "free some space or set ADDLIB_CACHE to a folder on another disk, then run again"


class CheckpointError(RuntimeError):
    """A file that must not be used; the message names it, says what is wrong, and what to do."""


def cache_dir() -> Path:
    """Where trained runs live.

    It is ``ADDLIB_CACHE`` of the environment. Else it is ``weights`` in a clone of the book, where
    `make book` puts them, and ``~/.cache/addlib`` for a package installed elsewhere.
    """
    clone = PACKAGE.parent
    usual = clone / "weights" if (clone / "workflow" / "Snakefile").is_file() else "~/.cache/addlib"
    return Path(os.environ.get("ADDLIB_CACHE") or usual).expanduser().resolve()


class CacheFolder(ABC):
    """A folder of the cache that one process fills while others wait."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The folder; it need not be there."""

    @property
    @abstractmethod
    def busy(self) -> str:
        """What the process that holds the folder does, e.g. ``"is training x"``."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process, and clear it of what a killed one left half-written.

        Another process that asks prints "Another process ``busy``" and waits. The lock is a file
        beside the folder.

        Raises:
            OSError: the folder can't be written; the message names it and says what to do.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0.2)
        except Timeout:
            print(f"Another process {self.busy}; waiting for it to finish.", flush=True)
            lock.acquire()
        except OSError as error:
            message = f"{self.path} can't be written: {error.strerror}; {FOLDER_REMEDY}"
            raise OSError(error.errno, message) from error
        try:
            for leftover in self.path.glob(".*.tmp"):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            yield
        finally:
            lock.release()


# -------------------------------------------------------------------- sealed folders
def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits; takes about 4 seconds per GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def sealed(folder: Path, marks: Mapping[str, str]) -> Iterator[Path]:
    """A folder to fill that appears as ``folder`` at the end, whole and sealed, or not at all.

    Its seal is ``files.json``: the marks, and size, time and SHA-256 of every file.

    Args:
        folder: must not be there yet.
        marks: what the contents were made from, plain JSON values.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        files = {}
        for file in sorted(temporary.iterdir()):
            status = file.stat()
            files[file.name] = {
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": sha256(file),
            }
        _write_seal(temporary, {**marks, "files": files})
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def broken_seal(folder: Path, marks: Mapping[str, str]) -> str | None:
    """What is wrong with a sealed folder; None if it is as it was made, from the same marks.

    Sizes are compared each time, and contents of files that were touched since they were last found
    intact.
    """
    try:
        seal = json.loads((folder / "files.json").read_text())
        if {name: seal[name] for name in marks} != marks:
            return "it was made from another file or by another version"
        touched = False
        for name, file in seal["files"].items():
            status = (folder / name).stat()
            if status.st_size != file["size"]:
                return f"{name} has {status.st_size} bytes, not {file['size']}"
            if status.st_mtime_ns != file["mtime_ns"]:
                if sha256(folder / name) != file["sha256"]:
                    return f"{name} was altered: its checksum differs"
                file["mtime_ns"] = status.st_mtime_ns
                touched = True
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its list of files is damaged"
    if touched:  # moved or copied, but the same: remember that
        _write_seal(folder, seal)
    return None


def _write_seal(folder: Path, seal: Mapping[str, Any]) -> None:
    write_whole(folder / "files.json", json.dumps(seal, indent=1).encode(), DISK_REMEDY)


# ------------------------------------------------------------------------------ runs
def key_of(description: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that identify a description (plain JSON values in any order)."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:12]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class RunFolder(CacheFolder):
    """The folder of one run.

    Args:
        name: readable part of the folder's name.
        description: plain JSON values that determine the run's weights; their hash is the key.
        root: the cache folder, as a rule :func:`cache_dir`.
    """

    name: str
    description: Mapping[str, Any]
    root: Path

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that identify the run."""
        return key_of(self.description)

    @property
    def path(self) -> Path:
        return self.root / f"{self.name}-{self.key}"

    @property
    def busy(self) -> str:
        return f"is training {self.path.name}"

    def write(self, file: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors (any device) to ``file`` in this folder, whole or not at all."""
        from safetensors.torch import save

        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        marks = {"format": FORMAT, "key": self.key, "sha256": _digest(on_cpu)}
        write_whole(self.path / file, save(on_cpu, metadata=marks), DISK_REMEDY)

    def read(
        self, file: str, like: Mapping[str, Tensor] | None = None, by_name: bool = False
    ) -> dict[str, Tensor]:
        """All tensors of ``file``, on the CPU, after every check has passed.

        Args:
            file: a name in this folder.
            like: tensors whose names, shapes and dtypes the file must have, if given.
            by_name: True reads of ``like`` what the file has, and leaves the file's others out.

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
                names = opened.keys()
                tensors = {name: opened.get_tensor(name) for name in names}
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
        if like is None:
            return tensors
        if by_name:
            like = {name: tensor for name, tensor in like.items() if name in tensors}
            tensors = {name: tensors[name] for name in like}
        if _forms(tensors) != _forms(like):
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
        write_whole(self.path / "run.json", text.encode(), DISK_REMEDY)

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
