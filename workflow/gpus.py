"""Jobs on GPUs: each sees one that has room for it, and jobs that fit share one.

    python -m workflow.gpus                                 the GPUs that torch can use, as JSON
    python -m workflow.gpus 1 addlib.training.runs main ... runs a module with 1 GiB of a GPU

Without a choice torch puts all that runs on the first GPU. Here a job takes the one with the most
room; where none has enough, it waits. Room is counted in locked files, one for each GiB: whatever
ends a process, the system frees them. GPUs that CUDA_VISIBLE_DEVICES hides stay hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from workflow.chapters import ROOT, WorkflowError

CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"

POLL_SECONDS = 1.0
"""Seconds between two looks for room."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use.

    Args:
        number: torch's, as in ``cuda:1``, among those that CUDA_VISIBLE_DEVICES leaves.
        id: what tells it from all others.
        name: its maker's.
        gib: its memory in whole GiB.
    """

    number: int
    id: str
    name: str
    gib: int


def usable() -> list[Gpu]:
    """The GPUs that torch can use here, in its order.

    Another process asks torch, for this one must not start CUDA before a GPU is chosen. Where there
    is no driver nobody is asked: that takes seconds.

    Raises:
        WorkflowError: torch fails as it looks for GPUs.
    """
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()):
        return []
    command = [sys.executable, "-m", "workflow.gpus"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if listed.returncode:
        raise WorkflowError("torch could not look for GPUs; its reason stands above")
    return [Gpu(**fields) for fields in json.loads(listed.stdout)]


def _query_torch() -> list[Gpu]:
    import torch  # takes seconds

    if not torch.cuda.is_available():  # also for a torch without CUDA, and a driver too old
        return []
    gpus = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        gib = properties.total_memory // 2**30
        gpus.append(Gpu(number, str(properties.uuid), properties.name, gib))
    return gpus


@contextmanager
def device_for(device: str, gib: int, job: str) -> Iterator[str | None]:
    """The device that a job runs on, kept for it, as a name: ``"cpu"`` or the GPU's.

    Where the job may choose ("auto", "cuda"), it gets a GPU with ``gib`` GiB to spare, waits for
    one if need be, and what it starts sees no other. A numbered GPU ("cuda:1") is not kept: a
    person has chosen. None stands for a device that isn't there or has another name.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        gib: memory that the job needs; one that needs more than any GPU has gets a whole one.
        job: its name, for the line that says that it waits.
    """
    if device == "cpu":
        yield "cpu"
        return
    gpus = usable()
    if device not in ("auto", "cuda"):
        yield {f"cuda:{gpu.number}": gpu.name for gpu in gpus}.get(device)
        return
    if not gpus:
        yield "cpu" if device == "auto" else None
        return
    with _reserve(gpus, gib, job) as gpu:
        before = os.environ.get(CUDA_VISIBLE_DEVICES)
        names = before.split(",") if before else [str(gpu.number) for gpu in gpus]
        os.environ[CUDA_VISIBLE_DEVICES] = names[gpu.number]
        try:
            yield gpu.name
        finally:
            if before is None:
                del os.environ[CUDA_VISIBLE_DEVICES]
            else:
                os.environ[CUDA_VISIBLE_DEVICES] = before


@contextmanager
def _reserve(gpus: Sequence[Gpu], gib: int, job: str) -> Iterator[Gpu]:
    """The GPU with the most room, with locks on as many of its GiB."""
    large_enough = [gpu for gpu in gpus if gpu.gib >= gib]
    candidates = large_enough or [max(gpus, key=lambda gpu: gpu.gib)]
    waits = False
    with ExitStack() as locks:
        while True:
            with FileLock(_folder() / "choice.lock"):  # one at a time counts and takes
                room = {gpu: _free(gpu) for gpu in candidates}
                roomiest = max(candidates, key=lambda gpu: len(room[gpu]))
                needed = min(gib, roomiest.gib)
                if len(room[roomiest]) >= needed:
                    for lock in room[roomiest][:needed]:
                        locks.enter_context(lock.acquire(timeout=0))
                    break
            if not waits:
                print(f"{job}: waits for {needed} GiB of a GPU.", file=sys.stderr, flush=True)
                waits = True
            time.sleep(POLL_SECONDS)
        yield roomiest


def _folder() -> Path:
    """Where this person's processes on this machine meet."""
    folder = Path(tempfile.gettempdir()) / f"addlib-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


def _free(gpu: Gpu) -> list[FileLock]:
    """The locks of a GPU, one for each GiB, that nobody holds."""
    locks = [FileLock(_folder() / f"{gpu.id}.{number}.lock") for number in range(gpu.gib)]
    return [lock for lock in locks if _is_free(lock)]


def _is_free(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gib", type=int, nargs="?", help="memory of a GPU that the module needs")
    parser.add_argument("module", nargs="?", help="what to run, as `python -m` does")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own")
    options = parser.parse_args()
    if options.module is None:
        print(json.dumps([asdict(gpu) for gpu in _query_torch()]))
        return
    sys.argv = [options.module, *options.arguments]
    try:
        with device_for("auto", options.gib, " ".join(sys.argv[:2])):
            runpy.run_module(options.module, run_name="__main__", alter_sys=True)
    except WorkflowError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{' '.join(sys.argv[:2])}: stopped.")


if __name__ == "__main__":
    main()
