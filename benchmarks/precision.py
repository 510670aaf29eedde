"""What bf16 autocast costs: final loss and time of the same small training in both precisions.

python benchmarks/precision.py    # adds to benchmarks/results.json and prints a table
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from statistics import median

from rows import add_rows, devices

from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train

SMALL = TrainConfig(
    task=AdditionTask(3), model=ModelConfig(width=128), steps=1500, lr=5e-4, snapshot_every=1500
)

SEEDS = (1, 2, 3)


def measure(name: str) -> dict:
    """Train each seed in both precisions, in a folder that is thrown away, so that nothing comes
    from the cache.
    """
    losses: dict[str, list[float]] = {"fp32": [], "bf16": []}
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADDLIB_CACHE"] = folder
        for seed in SEEDS:
            for precision in losses:
                run = load_or_train(replace(SMALL, seed=seed, precision=precision), name)
                losses[precision].append(run.history.loss[-100:].mean().item())
                times[precision].append(run.record["seconds"])
    row = {
        "steps": SMALL.steps,
        "seeds": len(SEEDS),
        "device": run.record["device"],
        **{f"{precision}_loss": round(median(values), 5) for precision, values in losses.items()},
        **{f"{precision}_s": round(median(values), 1) for precision, values in times.items()},
    }
    for precision in losses:
        print(
            f"{precision}: final loss {row[f'{precision}_loss']:.5f} nats, {row[f'{precision}_s']} "
            f"s ({row['device']})"
        )
    return row


def main() -> None:
    """Measure on the CPU, and on the GPU where there is one: each has a row of its own."""
    add_rows({f"precision_{name}": measure(name) for name in devices()})


if __name__ == "__main__":
    main()
