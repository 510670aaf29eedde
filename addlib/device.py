"""The model: a configuration of the addition transformer, and TransformerLens's native bridge built
from it.

Records of runs that are too long for a chapter: what was measured, when, on which device, by
which revision.

They are small JSON files that come with the package. A script under ``studies/`` makes each of them
anew.

Work on many rows, a batch at a time. A GPU without memory for a batch gets smaller ones, and the
reader is told.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

if TYPE_CHECKING:
    pass


def choose_device(device: str = "auto") -> torch.device:
    """The torch device for ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or
    ``"cuda:1"``.

    Raises:
        ValueError: an unknown name, or a device that this machine lacks.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    gpus = torch.cuda.device_count()
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise ValueError(f"device = {device!r}: must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if kind == "cuda" and int(index or 0) >= gpus:
        raise ValueError(
            f"device = {device!r}: this machine has {gpus} CUDA devices; use 'auto' or 'cpu'"
        )
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def hardware() -> str:
    """Name of this machine's first GPU, or of its CPU with the number of its cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8"))
        if cpuinfo.is_file()
        else None
    )
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"


REMEDY = 'end other programs that use the GPU, or run with device = "cpu"'


def in_batches(
    work: Callable[[slice], None], count: int, batch_size: int, progress: bool = False
) -> None:
    """Call ``work`` with slices that together are ``range(count)``, in order, of at most
    ``batch_size`` rows each.

    Where the GPU has no memory for a batch, that batch and all after it are halved, as often as it
    takes, and a line says so. Work on a batch that failed is done again, so it must not leave
    anything behind before its end.

    Raises:
        ValueError: no rows, or a batch size below 1.
        torch.OutOfMemoryError: there is no memory for a single row; the text says what to do.
    """
    if count == 0 or batch_size < 1:
        raise ValueError(
            f"{count} questions with batch_size = {batch_size}: both must be at least 1"
        )
    start = 0
    with tqdm(total=count, unit="question", mininterval=10.0, disable=not progress) as bar:
        while start < count:
            stop = min(start + batch_size, count)
            try:
                work(slice(start, stop))
            except torch.OutOfMemoryError as error:
                batch_size = halved(stop - start, error)
                continue
            bar.update(stop - start)
            start = stop


def halved(batch_size: int, error: torch.OutOfMemoryError) -> int:
    """Half of a batch that was too large for the GPU, with a line that says so; the error again for
    a single row.
    """
    if batch_size == 1:
        raise torch.OutOfMemoryError(
            f"the GPU has no memory for a single question: {REMEDY} ({error})"
        ) from error
    smaller = batch_size // 2
    print(
        f"The GPU is out of memory with {batch_size} questions at once; going on with {smaller}.",
        flush=True,
    )
    torch.cuda.empty_cache()
    return smaller
