"""One training step, the plain way and the short way, timed side by side in the same run.

    python benchmarks/train_step.py    # writes benchmarks/results.json and prints a table

The plain loop is what one writes first: the library's forward at every position, questions built
column by column, and each bucket's sum copied to the host. It records the same metrics as ours.
Blocks of steps of both alternate, with a matrix product timed between them, so that a machine that
slows down slows all three. On a GPU ours is a CUDA graph; beside it stand our eager step, and graphs
of several models, by model.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch
from rows import RESULTS, add_rows, devices
from torch.utils.flop_counter import FlopCounterMode

from addlib.claims.provenance import revision
from addlib.device import choose_device, device_name
from addlib.models.addition import build_model
from addlib.training.addition import TrainConfig, Trainer
from addlib.training.runs import RunConfig
from addlib.training.stacked import stacked_trainer

GRAPH_STEPS = 250
"""Steps of a graph that are timed at once: between two snapshots of the book's main model."""

STACKS = (8, 16)
"""Numbers of models whose steps are also timed together."""


class NaiveLoop:
    """The addition model trained without any of our shortcuts; one call is one step."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = build_model(config.model, config.task, config.seed, str(device))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            config.lr,
            (config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        self.random = random.Random(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.history: list[dict] = []

    def questions(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n, base, batch = self.config.task.n_digits, self.config.task.base, self.config.batch_size
        x = torch.randint(base, (batch, n), generator=self.generator)
        y = torch.randint(base, (batch, n), generator=self.generator)
        if self.random.randint(1, 5) == 1:
            change_x = self.random.randint(0, 1) == 0
            for cell in self.random.sample(range(batch * n), batch * n // 5):
                question, column = divmod(cell, n)
                if change_x:
                    x[question, column] = base - 1 - y[question, column]
                else:
                    y[question, column] = base - 1 - x[question, column]
        tokens = torch.zeros(batch, 3 * n + 3, dtype=torch.int64)
        tokens[:, n], tokens[:, 2 * n + 1] = base, base + 1
        bucket = torch.zeros(batch, n, dtype=torch.int64)
        carry = torch.zeros(batch, dtype=torch.int64)
        for column in range(n):
            a, b = x[:, column], y[:, column]
            tokens[:, n - 1 - column] = a
            tokens[:, 2 * n - column] = b
            total = a + b + carry
            tokens[:, 3 * n + 2 - column] = total % base
            bucket[:, column] = torch.where(carry == 0, 0, torch.where(a + b == base - 1, 2, 1))
            carry = total // base
        tokens[:, 2 * n + 2] = carry
        return (
            tokens.to(self.device),
            bucket.to(self.device),
            tokens[:, 2 * n + 2 :].to(self.device),
        )

    def __call__(self) -> None:
        n, step = self.config.task.n_digits, len(self.history)
        tokens, bucket, answer = self.questions()
        lr = self.config.lr * min(1.0, (step + 1) / self.config.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        logits = self.model(tokens)
        log_probs = logits[:, 2 * n + 1 : -1].to(torch.float64).log_softmax(-1)
        nll = -log_probs.gather(-1, answer[:, :, None])[:, :, 0]
        loss = nll.mean()
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = sum((p.grad**2).sum() for p in self.model.parameters()).sqrt()
        self.optimizer.step()
        record = {"loss": loss.item(), "grad_norm": grad_norm.item(), "lr": lr}
        for digit in range(n + 1):
            record[f"A{digit}"] = nll[:, n - digit].mean().item()
        for column in range(n):
            for code in range(3):
                cases = nll[:, n - column][bucket[:, column] == code]
                record[f"loss {code} {column}"] = cases.mean().item()
                record[f"count {code} {column}"] = len(cases)
        self.history.append(record)


class GraphSteps:
    """Our training on a GPU: each call takes ``steps`` steps of all models as a CUDA graph.

    The configurations must have as many steps as are taken in all.
    """

    def __init__(self, configs: Sequence[RunConfig], device: torch.device, steps: int) -> None:
        self.trainer = stacked_trainer(configs, str(device))
        self.trainer.record_graphs()
        self.steps = steps

    def __call__(self) -> None:
        self.trainer.advance(self.trainer.step + self.steps)


def seconds(call, times: int, device: torch.device) -> float:
    """Seconds per call over ``times`` calls in a row."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / times


def measure(device: torch.device, repeats: int, block: int) -> dict:
    """Medians over ``repeats`` alternating blocks of ``block`` steps."""
    config = TrainConfig(steps=2 * (repeats + 1) * block + 10)
    naive, eager = NaiveLoop(config, device), Trainer(config, str(device))
    square = torch.randn(2048, 2048, device=device)
    with FlopCounterMode(display=False) as counter:
        eager.train_step()
    flops = counter.get_total_flops()
    ways = {
        "naive": (naive, block, 1),
        "fast": (eager.train_step, 2 * block, 1),
        "gemm": (lambda: square @ square, 5, 1),
    }
    if device.type == "cuda":
        config = replace(config, steps=(repeats + 1) * GRAPH_STEPS)
        ways["eager"] = ways["fast"]
        for count in (1, *STACKS):
            seeds = [replace(config, seed=seed) for seed in range(count)]
            way = "fast" if count == 1 else f"stacked_{count}"
            ways[way] = (GraphSteps(seeds, device, GRAPH_STEPS), 1, count * GRAPH_STEPS)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):  # the first block warms up
        block_times = {
            name: seconds(call, count, device) / steps
            for name, (call, count, steps) in ways.items()
        }
        if repeat:
            for name, value in block_times.items():
                times[name].append(value)
            print(
                f"  {repeat}/{repeats}: "
                + ", ".join(f"{n} {1e3 * v:.1f} ms" for n, v in block_times.items()),
                flush=True,
            )
    rates = [2 * 2048**3 / t for t in times["gemm"]]
    return {
        "naive_ms": round(1e3 * statistics.median(times["naive"]), 2),
        "fast_ms": round(1e3 * statistics.median(times["fast"]), 2),
        "ratio": round(
            statistics.median(n / f for n, f in zip(times["naive"], times["fast"], strict=True)), 3
        ),
        "gemm_fraction": round(
            statistics.median(flops / f / r for f, r in zip(times["fast"], rates, strict=True)), 3
        ),
        "gflop_per_step": round(flops / 1e9, 3),
        "gemm_peak_gflops": round(statistics.median(rates) / 1e9, 1),
        "repeats": repeats,
        "steps_per_repeat": {
            name: count * steps for name, (_, count, steps) in ways.items() if name != "gemm"
        },
        "fast_ms_range": [round(1e3 * f(times["fast"]), 2) for f in (min, max)],
        "naive_ms_range": [round(1e3 * f(times["naive"]), 2) for f in (min, max)],
        **{
            f"{name}_ms": round(1e3 * statistics.median(values), 3)
            for name, values in times.items()
            if name not in ("naive", "fast", "gemm")
        },
        "device": device_name(device),
    }


PEAK = """
import resource
from addlib.training.addition import TrainConfig, Trainer
trainer = Trainer(TrainConfig(), "cpu")
for _ in range(30):
    trainer.train_step()
trainer.state()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--block", type=int, default=10, help="plain steps per repeat; twice as many of ours"
    )
    arguments = parser.parse_args()
    rows = {}
    for name in devices():
        print(f"training step on {name}:")
        rows[f"train_step_{name}"] = measure(
            choose_device(name), arguments.repeats, arguments.block
        )
    peak = subprocess.run(
        [sys.executable, "-c", PEAK], check=True, capture_output=True, text=True
    ).stdout
    rows["train_step_cpu"]["peak_gib"] = round(float(peak), 2)
    rows["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "revision": revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results = add_rows(rows)
    print(f"\n{'':18}{'naive':>10}{'fast':>10}{'ratio':>8}{'of GEMM peak':>14}")
    for name, row in results.items():
        if name.startswith("train_step"):
            print(
                f"{name:18}{row['naive_ms']:>7} ms{row['fast_ms']:>7} "
                f"ms{row['ratio']:>8}{row['gemm_fraction']:>14.0%}"
            )
    print(
        f"Peak memory of training: {results['train_step_cpu']['peak_gib']} GiB. Written to "
        f"{RESULTS.name}."
    )


if __name__ == "__main__":
    main()
