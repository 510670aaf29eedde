"""Runs that are trained together on a GPU: stacks of one shape, each a CUDA graph, all at once.

While the device is at its steps, this process draws the next questions, and threads write the
snapshots. Stacks of several shapes take turns, each on a stream of its own, so that their small
steps run side by side.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import torch
from torch import Tensor

from addlib.device import memory_for, out_of_memory, say_once
from addlib.models.bridge import weights
from addlib.store import CheckpointError
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig
from addlib.training.session import Session, restore_from, resume_step
from addlib.training.stacked import StackedTrainer, stack_key, stacked_trainer

MOST_MODELS = 32
"""Models in one stack."""

WRITERS = 4
"""Threads that write snapshots; most of their time goes into checksums."""

MOST_WAITING = 64
"""Snapshots that may wait to be written, in the host's memory."""

SECONDS_PER_STATE = 60.0
"""Seconds between two states to resume from: less than that is trained again sooner."""


def train_together(
    configs: Sequence[TrainConfig | PairConfig], device: str, progress: bool = False
) -> list[TrainConfig | PairConfig]:
    """Train on a GPU what the cache lacks; those that must be trained step by step are returned.

    Args:
        configs: of the runs.
        device: a GPU, as for :func:`addlib.device.choose_device`.
        progress: whether a bar shows the steps.

    Raises:
        CheckpointError: a file of an unfinished training is damaged or of another version.
    """
    with ExitStack() as locks:
        for config in sorted(set(configs), key=lambda config: str(config.folder.path)):
            locks.enter_context(config.folder.lock())
        missing = [config for config in dict.fromkeys(configs) if config.folder.record() is None]
        stacks = []
        left = []
        for group in _groups(missing):
            made = _stack(group, device)
            if made is None:
                left += group
            else:
                stacks.append(made)
        if stacks:
            with memory_for("several trainings at once"), Writers() as writers:
                _train([Making(stack, writers) for stack in stacks], progress)
    return left


def _groups(
    configs: Sequence[TrainConfig | PairConfig],
) -> list[list[TrainConfig | PairConfig]]:
    """Trainings that can be stacked: of one shape, and after the same number of steps."""
    groups: dict[Hashable, list[TrainConfig | PairConfig]] = defaultdict(list)
    for config in configs:
        groups[stack_key(config), resume_step(config.folder)].append(config)
    return [
        group[start : start + MOST_MODELS]
        for group in groups.values()
        for start in range(0, len(group), MOST_MODELS)
    ]


def _stack(configs: Sequence[TrainConfig | PairConfig], device: str) -> StackedTrainer | None:
    """The trainings where they were left, as a graph; None, and a line, where there can be none."""
    if stack_key(configs[0]) is None:
        _say_no_graph("bf16 is not stacked")
        return None
    try:
        stack = stacked_trainer(configs, device)
        states: list[Mapping[str, Tensor]] = []
        if resume_step(configs[0].folder):
            for config in configs:
                restore_from(config.folder, states.append)
            restore_from(configs[0].folder, lambda _: stack.restore(states))
        if stack.device.type == "cuda":
            stack.record_graphs()
    except CheckpointError:
        raise
    except (RuntimeError, MemoryError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        _say_no_graph("memory is short" if out_of_memory(error) else lines[0])
        return None
    return stack


def _say_no_graph(reason: str) -> None:
    say_once(
        f"No CUDA graph of a training step can be had here ({reason}); steps are launched one by "
        "one, which takes several times as long."
    )


class Writers:
    """Threads that write files, with a bound on how much waits to be written."""

    def __enter__(self) -> Writers:
        self.pool = ThreadPoolExecutor(WRITERS)
        self.waiting: deque[Future] = deque()
        return self

    def __call__(self, write: Callable[[], None]) -> None:
        """Do this in a thread; wait for an earlier one where many wait."""
        self.waiting.append(self.pool.submit(write))
        while len(self.waiting) > MOST_WAITING:
            self.waiting.popleft().result()

    def finish(self) -> None:
        """Wait for all, and raise what went wrong in one of them."""
        while self.waiting:
            self.waiting.popleft().result()

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)


class Making:
    """A stack in training, with the sessions that it leaves in its runs' folders."""

    def __init__(self, stack: StackedTrainer, writers: Writers) -> None:
        count = len(stack.configs)
        way = "graph" if count == 1 else f"stacked of {count}"
        if stack.device.type == "cpu":
            way = "eager" if count == 1 else f"{way}, eager"
        self.stack = stack
        self.writers = writers
        self.sessions = [
            Session(config.folder, stack.device, torch.get_num_threads(), way, stack.step)
            for config in stack.configs
        ]
        self.unfinished = list(range(count))
        self.kept_state = time.perf_counter()
        for number in self.unfinished:
            if stack.step == 0:
                self._snapshot(number, 0)
            else:
                self.sessions[number].say_resumed(stack.ends[number])

    def go_on(self) -> int:
        """Send the device the steps up to the next at which something is kept; how many."""
        before = self.stack.step
        self.stack.advance(self._next_stop())
        return self.stack.step - before

    def keep(self) -> None:
        """Keep what there is to keep after these steps."""
        stack = self.stack
        stack.look()
        keep_state = time.perf_counter() - self.kept_state > SECONDS_PER_STATE
        for number in list(self.unfinished):
            end = stack.ends[number]
            if stack.step >= end:
                self._snapshot(number, end)
                self._finish(number)
            elif stack.step % stack.configs[number].snapshot_every == 0:
                self._snapshot(number, stack.step)
        if keep_state:
            self._keep_states()

    def _next_stop(self) -> int:
        stack = self.stack
        stops = []
        for number in self.unfinished:
            every = stack.configs[number].snapshot_every
            to_snapshot = stack.step + every - stack.step % every
            stops += [to_snapshot, stack.ends[number], stack.step + stack.most_steps()]
        return min(stops)

    def _snapshot(self, number: int, step: int) -> None:
        copies, arrive = self._on_host(weights(self.stack.models[number]))
        session = self.sessions[number]

        def write() -> None:
            arrive()
            session.snapshot(step, copies)

        self.writers(write)

    def _finish(self, number: int) -> None:
        """Write history and record, after all snapshots."""
        history, arrive = self._on_host(self.stack.finished(number).tensors())
        self.writers.finish()
        arrive()
        self.sessions[number].finish(self.stack.ends[number], history)
        self.unfinished.remove(number)

    def _keep_states(self) -> None:
        """Write what the trainings go on from, one after another: memory for one is enough."""
        self.writers.finish()
        for number in self.unfinished:
            state, arrive = self._on_host(self.stack.state(number))
            arrive()
            self.sessions[number].keep_state(self.stack.step, state)
        self.kept_state = time.perf_counter()

    def _on_host(
        self, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Callable[[], None]]:
        """Copies on the CPU, and a function that waits until they are there."""
        stream = self.stack.stream
        if stream is None:
            return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, _ready
        with torch.cuda.stream(stream):
            copies = {
                name: tensor.detach().to("cpu", non_blocking=True)
                for name, tensor in tensors.items()
            }
            event = torch.cuda.Event()
            event.record()
        return copies, event.synchronize


def _ready() -> None:
    """What is there need not be waited for."""


def _train(makings: Sequence[Making], progress: bool) -> None:
    """Let the stacks take turns until all are done."""
    from tqdm import tqdm

    models = sum(len(making.sessions) for making in makings)
    total = sum(max(making.stack.ends) - making.stack.step for making in makings)
    bar = tqdm(
        total=total,
        desc=f"training {models} models" if models > 1 else makings[0].sessions[0].folder.name,
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 10.0,
        disable=not progress,
    )
    left = list(makings)
    with bar:
        while left:
            for making in left:
                bar.update(making.go_on())
            for making in left:
                making.keep()
            left = [making for making in left if making.unfinished]
