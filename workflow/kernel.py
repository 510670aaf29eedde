"""Executes a notebook so that its kernel's start does not depend on luck.

jupyter_client looks for five free TCP ports, lets them go, and hopes that they are still free when
the kernel takes them. Here a kernel's sockets are files in a private folder where the system has
such sockets, and a kernel that dies or stays silent before its first answer is started again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import papermill
from nbclient.exceptions import DeadKernelError
from traitlets.config import Config

MAX_STARTS = 3
"""How often a kernel is started before a run is given up."""

ANSWER_SECONDS = 180
"""Seconds that a kernel may take to its first answer: many start at once on a small machine."""

OUTPUT_SECONDS = 120
"""Seconds that the rest of a cell's output may take after the cell's end: nbclient gives it 4."""

MAX_FOLDER_CHARACTERS = 80
"""Characters of a folder for sockets: their paths, which are longer, may have about 100."""


class KernelStartError(Exception):
    """No kernel answered, however often one was started."""


def execute_notebook(
    notebook: Path, target: str, parameters: Mapping[str, Any], name: str, **options: Any
) -> None:
    """Execute a notebook through papermill; a kernel that gives no answer is started again.

    Args:
        notebook: the file.
        target: where papermill saves the executed notebook after each cell.
        parameters: papermill's.
        name: the notebook's, for the line that says that its kernel is started again.
        options: further ones of ``papermill.execute_notebook``.

    Raises:
        KernelStartError: none of :data:`MAX_STARTS` kernels answered.
        PapermillExecutionError, DeadKernelError: a cell failed; the kernel died in a cell.
    """
    for start in range(1, MAX_STARTS + 1):
        answered = Event()
        try:
            with _connection(start) as config:
                papermill.execute_notebook(
                    notebook,
                    target,
                    parameters,
                    kernel_name="python3",
                    config=config,
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                    start_timeout=ANSWER_SECONDS,
                    iopub_timeout=OUTPUT_SECONDS,
                    on_notebook_start=lambda notebook, answered=answered: answered.set(),
                    **options,
                )
            return
        except DeadKernelError:
            raise
        except RuntimeError as error:  # what jupyter_client raises where no answer came
            if answered.is_set():
                raise
            if start == MAX_STARTS:
                text = f"the kernel could not be started, {MAX_STARTS} times: {error}"
                raise KernelStartError(text) from error
            print(
                f"{name}: the kernel gave no answer ({error}); it is started again.",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def _connection(start: int) -> Iterator[Config]:
    """Settings of a kernel manager: sockets in a folder of their own, which is gone afterwards.

    The last start does without, for a folder that can't hold sockets.
    """
    if os.name != "posix" or start == MAX_STARTS:
        yield Config()
        return
    usual = tempfile.gettempdir()
    parent = usual if len(usual) < MAX_FOLDER_CHARACTERS else "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="kernel-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        file = str(Path(folder) / "k.json")
        yield Config(KernelManager={"transport": "ipc", "connection_file": file})
