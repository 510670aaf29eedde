"""Work on many rows, a batch at a time. A GPU without memory for a batch gets smaller ones, and the
reader is told.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from tqdm.auto import tqdm

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
