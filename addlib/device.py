"""Where work runs, and how much of it at once.

Devices by name, and smaller batches where memory is short.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from tqdm.auto import tqdm

Result = TypeVar("Result")

REMEDY = 'end other programs that use its memory, or, on a GPU, run with device = "cpu"'
"""What a person can do where memory is short."""


# --------------------------------------------------------------------------- devices
def choose_device(device: str = "auto") -> torch.device:
    """The torch device for ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"cuda[:N]"``.

    Raises:
        ValueError: an unknown name, or a device that this machine lacks.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if not name:
        raise ValueError(f"device = {device!r}: must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
    gpus = torch.cuda.device_count()
    if device != "cpu" and int(name[1] or 0) >= gpus:
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
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    model = re.search(r"model name\s*: (.+)", text)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"


# --------------------------------------------------------------------------- threads
@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads of the CPU meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------- memory
MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "bad_alloc",
)
"""Parts of the messages with which torch and CUDA say that memory is short, in small letters."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: Python's, torch's on the CPU, or CUDA's."""
    message = str(error).lower()
    said = any(text in message for text in MEMORY_TEXTS)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def with_smaller_batches(
    work: Callable[[int], Result], size: int, unit: str = "question"
) -> tuple[Result, int]:
    """``work(size)``, tried again with half the size as often as memory runs out.

    A line says so each time. Work that failed is done again, so it must not leave anything behind
    before its end.

    Args:
        work: takes the number of ``unit`` that may be in memory at once.
        size: that number at first, at least 1.
        unit: what is counted, for the messages.

    Returns:
        What ``work`` gave, and the size that there was memory for: use it from then on.

    Raises:
        torch.OutOfMemoryError: there is no memory for a single one; the text says what to do.
    """
    while True:
        try:
            return work(size), size
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise torch.OutOfMemoryError(
                    f"there is no memory for a single {unit}: {REMEDY} ({error})"
                ) from error
        # Here, after the error with its hold on the failed batch is gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"Out of memory with {size} {unit}s at once; going on with {size // 2}.", flush=True)
        size //= 2


def in_batches(
    work: Callable[[slice], None], count: int, batch_size: int, progress: bool = False
) -> None:
    """Call ``work`` with slices that together are ``range(count)``, in order.

    They have at most ``batch_size`` rows each, and fewer from the first one on for which memory is
    short: see :func:`with_smaller_batches`.

    Raises:
        ValueError: no rows, or a batch size below 1.
    """
    if count == 0 or batch_size < 1:
        raise ValueError(
            f"{count} questions with batch_size = {batch_size}: both must be at least 1"
        )
    start = 0

    def next_batch(size: int) -> None:
        work(slice(start, start + size))

    with tqdm(total=count, unit="question", mininterval=10.0, disable=not progress) as bar:
        while start < count:
            _, batch_size = with_smaller_batches(next_batch, min(batch_size, count - start))
            bar.update(batch_size)
            start += batch_size
