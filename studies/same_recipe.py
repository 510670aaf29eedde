"""Layers or recipe? One layer with the two-layer model's recipe, two layers with the plain one.

    python studies/same_recipe.py                   # trains seven models: hours on one CPU thread
    python studies/same_recipe.py --only one_layer  # half an hour
    python studies/same_recipe.py --steps 50        # tries it out and records nothing

The two-layer model of two_layers.py differs from the book's main model in its recipe, too. The
record addlib/data/same_recipe.json has, for three seeds of each control and that model, d' between
cascades and their twins by answer digit and distance, and the wrong sums of so many random ones;
of one layer also how far nines drown the third pair. Chapter 09 reads it, and what was left out
there is not yet run.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from two_layers import RECIPE

from addlib.analysis.answers import answer
from addlib.analysis.place_axes import drowned
from addlib.analysis.sight import says_carry, sight
from addlib.claims import stored
from addlib.device import hardware
from addlib.tasks.sampling import uniform_questions
from addlib.training.addition import TrainConfig
from addlib.training.runs import Run, load_or_train

SEEDS = (101, 102, 103)

PLAIN = TrainConfig()

ONE_LAYER = replace(RECIPE, model=replace(RECIPE.model, n_layers=1))

PLAIN_TWO = replace(PLAIN, model=replace(PLAIN.model, n_layers=2))

TRAINED = {
    "one_layer": [replace(ONE_LAYER, seed=seed) for seed in SEEDS],
    "two_layers": [replace(PLAIN_TWO, seed=seed) for seed in SEEDS],
    "two_layers_long": [RECIPE],
}
"""What is trained, by its name in the record."""


def measured(run: Run, count: int = 1000, uniform: int = 20_000) -> dict[str, Any]:
    """d' at each answer digit with two pairs below or more, and the rest of a model's entry."""
    task = run.config.task
    generator = torch.Generator().manual_seed(run.config.seed + 1)
    rows = []
    for k in range(2, task.n_answer):
        for down in range(1, k + 1):
            said = says_carry(run.model, task, k, down, count, generator)
            rows.append({"digit": k, "down": down, "sight": sight(said)})
    asked = uniform_questions(task, uniform, generator)
    wrong = int((~answer(run.model, asked, progress=True).right).sum())
    entry = {"seed": run.config.seed, "sights": rows, "questions": uniform, "wrong": wrong}
    if run.config.model.n_layers == 1:
        entry["drowned"] = drowned(run.model, task, task.n_digits - 1, run.config.seed)
    return entry


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="so many in place of the recipes'; no record")
    parser.add_argument(
        "--only", nargs="+", choices=TRAINED, default=list(TRAINED), help="these of the record"
    )
    options = parser.parse_args()
    if options.steps is None:
        stored.clean_revision()
    content: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for name, entries in content.items():
        for config in TRAINED[name]:
            steps = config.steps if options.steps is None else options.steps
            run = load_or_train(replace(config, steps=steps), options.device)
            entries.append(measured(run))
            print(name, entries[-1])
    if options.steps is None:
        made_by = f"python studies/same_recipe.py --only {' '.join(options.only)}"
        print(stored.write("same_recipe", made_by, hardware(run.device), content))


if __name__ == "__main__":
    main()
