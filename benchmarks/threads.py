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
from collections.abc import Iterator
from contextlib import contextmanager

from rows import RESULTS, add_rows

STEPS = """
import time
from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig, Trainer
config = TrainConfig(AdditionTask(3), ModelConfig(width=128), steps=4000, lr=5e-4)
trainer = Trainer(config, "cpu")
trainer.train_step()
begun = time.perf_counter()
{steps}
print((time.perf_counter() - begun) / {count})
"""

SETUP = "from addlib.notebook import setup\nsetup()\n"

BARE = """
import torch
from addlib.device import limited_threads
from addlib.stats import answer_nll
questions = next(trainer.stream)
with limited_threads(trainer.threads):
    for _ in range({count}):
        trainer.optimizer.zero_grad()
        answer_nll(trainer.forward(questions.tokens), questions.answer).mean().backward()
        trainer.optimizer.step()
"""

WAYS = {
    "plain": STEPS.replace("{steps}", "for _ in range({count}):\n    trainer.train_step()"),
    "ours": SETUP + STEPS.replace("{steps}", "trainer.train({count})"),
    "bare": SETUP + STEPS.replace("{steps}", BARE),
}

BUSY = "while True: sum(range(10_000))"


def seconds_per_step(way: str, count: int) -> float:
    """Of so many steps in a process that has no settings for threads but its own."""
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    command = [sys.executable, "-c", WAYS[way].replace("{count}", str(count))]
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
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["ours"], strict=True)]
    of_bare = [ours / bare for ours, bare in zip(times["ours"], times["bare"], strict=True)]
    return {
        "busy_programs": programs,
        "plain_ms": round(1e3 * statistics.median(times["plain"]), 2),
        "ours_ms": round(1e3 * statistics.median(times["ours"]), 2),
        "bare_ms": round(1e3 * statistics.median(times["bare"]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "times_bare": round(statistics.median(of_bare), 2),
        "repeats": repeats,
        "steps_per_repeat": count,
        "cores": os.cpu_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    rows = {}
    for name, programs in (("quiet", 0), ("busy", os.cpu_count() or 1)):
        print(f"small training step, {programs} busy programs beside it:")
        rows[f"threads_{name}"] = measure(programs, arguments.repeats, arguments.steps)
    add_rows(rows)
    print(f"\n{'':10}{'plain':>12}{'ours':>12}{'bare':>12}{'plain / ours':>14}{'ours / bare':>13}")
    for name in ("quiet", "busy"):
        row = rows[f"threads_{name}"]
        print(
            f"{name:10}{row['plain_ms']:>9} ms{row['ours_ms']:>9} ms{row['bare_ms']:>9} ms"
            f"{row['ratio']:>14}{row['times_bare']:>13}"
        )
    print(f"Written to {RESULTS.name}.")


if __name__ == "__main__":
    main()
