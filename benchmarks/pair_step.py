"""One epoch of training on pairs modulo 113, the plain way and the short way, timed side by side.

    python benchmarks/pair_step.py    # adds to benchmarks/results.json and prints a table

The plain loop is the library's forward at every position, autograd through a float64 log-softmax,
and AdamW. It comes twice: measuring nothing, and with the held-out pairs every tenth epoch as ours
does. On a GPU ours is a CUDA graph, and our eager epoch has a column of its own. Blocks alternate,
so that a machine that slows down slows all.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from rows import add_rows, devices
from train_step import GRAPH_STEPS, GraphSteps, seconds

from addlib.device import choose_device, device_name
from addlib.models.pairs import accuracy, pair_logits
from addlib.training.pairs import PairConfig
from addlib.training.runs import RUNS


class PlainLoop:
    """The same model on the same pairs without any of our shortcuts; one call is one epoch.

    Args:
        tests: measure as :class:`~addlib.training.pairs.PairTrainer` does, or nothing at all.
    """

    def __init__(self, config: PairConfig, device: torch.device, tests: bool) -> None:
        self.config, self.tests, self.history = config, tests, []
        self.model = config.build(str(device))
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained,
            config.lr,
            (config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        pairs = config.task.pairs()
        self.sides = [pairs[side] for side in config.sides()]
        self.answers = [config.task.answers(side).to(device) for side in self.sides]

    def logits_and_loss(self, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        logits = pair_logits(self.model, self.config.task, self.sides[side])
        return logits, -logits.double().log_softmax(-1).gather(
            1, self.answers[side][:, None]
        ).mean()

    def __call__(self) -> None:
        logits, loss = self.logits_and_loss(0)
        if self.tests:
            record = {
                "loss": loss.item(),
                "norm": sum((p.detach() ** 2).sum().item() for p in self.model.parameters()),
            }
            if len(self.history) % self.config.test_every == 0:
                with torch.no_grad():
                    held_out, test_loss = self.logits_and_loss(1)
                record |= {
                    "test_loss": test_loss.item(),
                    "accuracy": accuracy(logits, self.answers[0]).item(),
                }
                record["test_accuracy"] = accuracy(held_out, self.answers[1]).item()
            self.history.append(record)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def measure(device: torch.device, repeats: int) -> dict:
    """Medians over ``repeats`` alternating blocks of as many epochs as there is one test in."""
    config = RUNS["grokking"]
    every = config.test_every
    ways = {
        "plain": (PlainLoop(config, device, tests=False), every),
        "plain_tested": (PlainLoop(config, device, tests=True), every),
        "fast": (config.trainer(str(device)).train_step, every),
    }
    if device.type == "cuda":
        ways["eager"] = ways["fast"]
        ways["fast"] = (GraphSteps([config], device, GRAPH_STEPS), 1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):  # the first block warms up
        for name, (call, count) in ways.items():
            spent = seconds(call, count, device) / getattr(call, "steps", 1)
            if repeat:
                times[name].append(1e3 * spent)
    row = {f"{name}_ms": round(median(values), 2) for name, values in times.items()}
    for name, ratio in (("plain", "ratio"), ("plain_tested", "ratio_same_records")):
        row[ratio] = round(
            median(a / b for a, b in zip(times[name], times["fast"], strict=True)), 2
        )
    ranges = {
        f"{name}_ms_range": [round(f(values), 2) for f in (min, max)]
        for name, values in times.items()
    }
    return (
        row
        | ranges
        | {"repeats": repeats, "threads": torch.get_num_threads(), "device": device_name(device)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    rows = {}
    for name in devices():
        row = measure(choose_device(name), arguments.repeats)
        print(
            f"epoch of pairs on {row['device']}: plain {row['plain_ms']} ms, with the same records "
            f"{row['plain_tested_ms']} ms, ours {row['fast_ms']} ms: {row['ratio']} and "
            f"{row['ratio_same_records']} "
            f"times faster"
        )
        rows[f"pair_step_{name}"] = row
    add_rows(rows)


if __name__ == "__main__":
    main()
