"""Where work runs, and how much of it at once.

Devices by name, and smaller batches where memory is short.
"""

from __future__ import annotations

import functools
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import torch
from tqdm.auto import tqdm

Result = TypeVar("Result")

NO_MEMORY = "there is no memory for"
"""How the message begins where even the smallest part of a work does not fit."""

MEMORY_REMEDY = (
    'end other programs that use its memory, or, on a GPU, run with device = "cpu" or with '
    "CUDA_VISIBLE_DEVICES set to nothing"
)
"""What a person can do where memory is short."""


# --------------------------------------------------------------------------- devices
def choose_device(device: str = "auto") -> torch.device:
    """The torch device for ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"cuda[:N]"``.

    Where "auto" finds a GPU that can't be used it takes the CPU, and a line says why. From here on
    products of float32 matrices are true ones: see :func:`pin_float32`.

    Raises:
        ValueError: an unknown name, a device that this machine lacks or can't use, or Apple's GPU,
            which TransformerLens computes wrongly on.
    """
    pin_float32()
    gpus = torch.cuda.device_count()
    if device == "auto":
        chosen = torch.device("cuda" if gpus else "cpu")
        fault = _fault_of(chosen)
        if fault:
            say_once(f"Running on the CPU, for the GPU can't be used: {fault}.")
            return torch.device("cpu")
        return chosen
    if device == "mps":
        raise ValueError(
            "device = 'mps': TransformerLens gives wrong numbers on Apple's GPUs, without an error "
            "(its issues 1008 and 1178); use 'cpu'"
        )
    name = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if not name:
        raise ValueError(f"device = {device!r}: must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device != "cpu" and int(name[1] or 0) >= gpus:
        raise ValueError(f"device = {device!r}: CUDA devices here: {gpus}; use 'auto' or 'cpu'")
    fault = _fault_of(torch.device(device))
    if fault:
        raise ValueError(
            f"device = {device!r} can't be used: {fault}; update its driver, see what else runs "
            f"there, or use 'cpu'"
        )
    return torch.device(device)


def _fault_of(device: torch.device) -> str | None:
    """Why torch can't compute on a device: a driver too old, for one; None where it can.

    The system counts GPUs whether torch can use them or not, so this tries.
    """
    try:
        torch.ones(1, device=device)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
    return None


@functools.cache
def say_once(line: str) -> None:
    """Print a line, unless this process has printed it before."""
    print(line, flush=True)


def pin_float32() -> None:
    """Let products of float32 matrices be true ones, whatever was set before.

    In TF32, which containers for GPUs switch on, they are off by a thousandth: more than the checks
    of exact forwards and exported models allow. A line says so where it can't be switched off.
    """
    # The older of torch's two ways to say it: it sets the newer one, too, in one state.
    torch.set_float32_matmul_precision("highest")
    if (
        os.environ.get("NVIDIA_TF32_OVERRIDE") == "1"
    ):  # CUDA's libraries obey it, whatever torch says
        say_once(
            "Products of float32 matrices are off by a thousandth here (TF32), and checks may fail: "
            "unset NVIDIA_TF32_OVERRIDE and start again."
        )


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the GPU's own name: what records say of where a number was made."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def hardware(device: torch.device) -> str:
    """The GPU's own name, or that of this machine's CPU with the number of its cores."""
    if device.type == "cuda":
        return device_name(device)
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
    "status_alloc_failed",  # CUDA's libraries
    "bad_alloc",
)
"""Parts of the messages with which torch and CUDA say that memory is short, in small letters."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: Python's, torch's on the CPU, or CUDA's."""
    message = str(error).lower()
    said = any(text in message for text in MEMORY_TEXTS)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


@contextmanager
def memory_for(what: str, then: str = "") -> Iterator[None]:
    """Around work that can't be done in smaller parts: one sentence where memory is short.

    Args:
        what: that there may be no memory for, for the message.
        then: what comes of the work when it is run again, for the end of the message.

    Raises:
        torch.OutOfMemoryError: in place of any error that says so; the text says what to do.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        message = str(error)
        if not message.startswith(NO_MEMORY):
            message = f"{NO_MEMORY} {what}: {MEMORY_REMEDY} ({message})"
        elif not then:
            raise
        raise torch.OutOfMemoryError(f"{message}; {then}" if then else message) from error


_undo: ContextVar[list[Callable[[], object]] | None] = ContextVar("undo", default=None)


def undo_if_tried_again(undo: Callable[[], object]) -> None:
    """Let ``undo`` be called before the work that goes on now is done again with less memory.

    For what moves on from batch to batch, a random generator or a count: a second try then begins
    where the first one did. Without such work nothing happens.
    """
    steps = _undo.get()
    if steps is not None:
        steps.append(undo)


def with_smaller_batches(
    work: Callable[[int], Result], size: int, unit: str = "question"
) -> tuple[Result, int]:
    """``work(size)``, tried again with half the size as often as memory runs out.

    A line says so each time. Work that failed is done again, so it must not leave anything behind
    before its end, or say how to take it back: :func:`undo_if_tried_again`.

    Args:
        work: takes the number of ``unit`` that may be in memory at once.
        size: that number at first, at least 1.
        unit: what is counted, for the messages.

    Returns:
        What ``work`` gave, and the size that there was memory for: use it from then on.

    Raises:
        torch.OutOfMemoryError: there is no memory for a single one; the text says what to do.
    """
    outer = _undo.get()
    while size > 1:
        steps: list[Callable[[], object]] = []
        token = _undo.set(steps)
        try:
            result = work(size)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            for undo in reversed(steps):
                undo()
        else:
            if outer is not None:  # all of it is a part of work that may still fail
                outer.extend(steps)
            return result, size
        finally:
            _undo.reset(token)
        # Here, after the error with its hold on the failed batch is gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"Out of memory with {size} {unit}s at once; going on with {size // 2}.", flush=True)
        size //= 2
    with memory_for(f"a single {unit}"):
        return work(size), size


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
