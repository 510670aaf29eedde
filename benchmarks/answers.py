"""Answers per second: the library's forward, the exact short one, and the one for very many questions.

    python benchmarks/answers.py    # adds to benchmarks/results.json and prints a table

The book's trained model is needed, since it matters how many of its answers are close calls; it is
trained if missing. Each device has a row of its own.
"""

from __future__ import annotations

from functools import partial
from statistics import median

import torch
from rows import add_rows, devices
from train_step import seconds

from addlib.analysis import answers
from addlib.device import device_name
from addlib.models.addition import answer_logits
from addlib.tasks.sampling import uniform_questions
from addlib.training.runs import load_or_train

REPEATS, LIBRARY, EXACT, MANY = 3, 1_000, 4_000, 200_000


def measure(name: str) -> dict:
    """Medians of the time for a million answers, from alternating blocks of the three ways on the
    same questions.
    """
    run = load_or_train(device=name)
    model, task = run.model, run.config.task
    questions = uniform_questions(task, MANY, torch.Generator().manual_seed(1))

    @torch.no_grad()
    def library() -> None:
        for tokens in questions[:LIBRARY].tokens.split(512):
            answer_logits(model, task, tokens.to(run.device)).argmax(-1)

    assert EXACT < answers.READOUT_FROM <= MANY
    ways = {
        "library": (library, LIBRARY),
        "exact": (partial(answers.answer, model, questions[:EXACT]), EXACT),
        "many": (partial(answers.answer, model, questions), MANY),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(REPEATS + 1):  # the first one warms up
        for way, (call, count) in ways.items():
            spent = seconds(call, 1, run.device)
            if repeat:
                times[way].append(spent / count * 1e6)
    row = {f"{way}_s_per_million": round(median(values), 1) for way, values in times.items()}
    row |= {
        "ratio_to_library": round(
            median(a / b for a, b in zip(times["library"], times["many"], strict=True)), 2
        ),
        "repeats": REPEATS,
        "threads": torch.get_num_threads(),
        "device": device_name(run.device),
    }
    for way in ways:
        print(f"a million answers, {way}: {row[f'{way}_s_per_million']} s ({row['device']})")
    print(f"ratio to the library: {row['ratio_to_library']}")
    return row


def main() -> None:
    """Measure on the CPU, and on the GPU where there is one."""
    add_rows({f"answers_{name}": measure(name) for name in devices()})


if __name__ == "__main__":
    main()
