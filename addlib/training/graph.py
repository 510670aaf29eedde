"""A training step as a CUDA graph: recorded once, then launched as a whole.

Steps of small models are bound by the hundreds of launches that each of them takes. A graph is one
launch, but it repeats exactly what was recorded: all that changes from step to step must be read
from tensors that stay where they are.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP_STEPS = 3
"""Steps before the recording, in which libraries choose their kernels and take their memory."""


@torch.no_grad()
def recorded(
    step: Callable[[], None], state: Sequence[Tensor], stream: torch.cuda.Stream
) -> Callable[[], None]:
    """A function that takes the step by one launch, on the current stream.

    Args:
        step: takes one step, and waits for nothing on the host.
        state: the tensors that it changes. They get their values back, for the step is taken a few
            times before it is recorded.
        stream: where the warm-up and the recording run.

    Raises:
        RuntimeError: a step of this kind can't be recorded, or there is no memory for it.
    """
    before = [tensor.detach().clone() for tensor in state]
    gc.collect()
    with torch.cuda.stream(stream), warnings.catch_warnings():
        # AdamW warns of being told that it will be recorded, and then is not, or not yet.
        warnings.filterwarnings("ignore", message=".*capturable")
        for _ in range(WARM_UP_STEPS):
            with torch.enable_grad():
                step()
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
    gc.collect()  # what is freed during the recording would end it
    graph = torch.cuda.CUDAGraph()
    # Other threads copy snapshots meanwhile, which is no part of the graph.
    with (
        torch.enable_grad(),
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        step()
    return graph.replay
