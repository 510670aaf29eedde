"""A small model's training step: in a plain notebook, as ours take it, and its bare minimum.

    python benchmarks/threads.py    # adds to benchmarks/results.json and prints a table

torch's threads wait for each other by spinning. Where other programs keep the cores busy, each
barrier then waits for a thread that has no core. Our notebooks set a passive wait policy before
torch is loaded, and small models train on one thread. The bare minimum is our model's forward,
backward and optimizer step on questions that are there already, nothing drawn and nothing recorded.
Each way runs in processes of its own, in turns, first on the machine as it is and then beside one
busy program for each core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from addlib.training.addition import Trainer

BUSY = "while True: sum(range(10_000))"


# ---------------------------------------------------------------- in a process of its own
def plain(trainer: Trainer, count: int) -> None:
    """Steps on as many threads as torch takes."""
    for _ in range(count):
        trainer.train_step()


def ours(trainer: Trainer, count: int) -> None:
    """Steps as the chapters' models are trained."""
    trainer.train(count)


def bare(trainer: Trainer, count: int) -> None:
    """Forward, backward and optimizer alone, on the same threads as ours."""
    from addlib.device import limited_threads
    from addlib.stats import answer_nll

    questions = next(trainer.stream)
    with limited_threads(trainer.threads):
        for _ in range(count):
            trainer.optimizer.zero_grad()
            answer_nll(trainer.forward(questions.tokens), questions.answer).mean().backward()
            trainer.optimizer.step()


WAYS: dict[str, Callable[[Trainer, int], None]] = {"plain": plain, "ours": ours, "bare": bare}


def time_one_way(way: str, count: int) -> float:
    """Seconds per step in this process, in which torch must not be loaded yet."""
    from addlib.notebook import setup

    if way != "plain":
        setup()
    from addlib.models.addition import ModelConfig
    from addlib.tasks.addition import AdditionTask
    from addlib.training.addition import TrainConfig

    config = TrainConfig(
        AdditionTask(3), ModelConfig(width=128), steps=2 * count, lr=5e-4, warmup_steps=1
    )
    trainer = config.trainer("cpu")
    trainer.train_step()
    begun = time.perf_counter()
    WAYS[way](trainer, count)
    return (time.perf_counter() - begun) / count


# ------------------------------------------------------------------------ the measurement
def seconds_per_step(way: str, count: int) -> float:
    """Seconds per step in a fresh process without ``OMP_`` variables."""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    command = [sys.executable, __file__, "--way", way, "--steps", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many programs that each keep a core busy."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def measure(programs: int, repeats: int, count: int) -> dict:
    """Medians over ``repeats`` turns."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with busy(programs):
        for repeat in range(repeats):
            for way in WAYS:
                times[way].append(seconds_per_step(way, count))
            turn = ", ".join(f"{way} {1e3 * values[-1]:.1f} ms" for way, values in times.items())
            print(f"  {repeat + 1}/{repeats}: {turn}", flush=True)
    of_plain = [first / second for first, second in zip(times["plain"], times["ours"], strict=True)]
    of_bare = [first / second for first, second in zip(times["ours"], times["bare"], strict=True)]
    return {
        "busy_programs": programs,
        **{f"{way}_ms": round(1e3 * statistics.median(times[way]), 2) for way in WAYS},
        "plain_to_ours": round(statistics.median(of_plain), 2),
        "plain_to_ours_range": [round(min(of_plain), 2), round(max(of_plain), 2)],
        "ours_to_bare": round(statistics.median(of_bare), 2),
        "repeats": repeats,
        "steps_per_repeat": count,
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--way", choices=WAYS, help="time one way in this process, and no more")
    options = parser.parse_args()
    if options.way:
        print(time_one_way(options.way, options.steps))
        return
    from rows import RESULTS, add_rows

    rows = {}
    for name, programs in (("quiet", 0), ("busy", os.cpu_count() or 1)):
        print(f"small training step, {programs} busy programs beside it:")
        rows[f"threads_{name}"] = measure(programs, options.repeats, options.steps)
    add_rows(rows)
    print(f"\n{'':8}{'plain':>12}{'ours':>12}{'bare':>12}{'plain : ours':>15}{'ours : bare':>14}")
    for name in ("quiet", "busy"):
        row = rows[f"threads_{name}"]
        times = "".join(f"{row[f'{way}_ms']:>9} ms" for way in WAYS)
        print(f"{name:8}{times}{row['plain_to_ours']:>15}{row['ours_to_bare']:>14}")
    print(f"Written to {RESULTS.name}.")


if __name__ == "__main__":
    main()
