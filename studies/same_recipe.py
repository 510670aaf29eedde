"""Layers or recipe? One layer with the two-layer model's recipe, two layers with the plain one.

    python studies/same_recipe.py             # trains six models: hours on one CPU thread; records
    python studies/same_recipe.py --steps 50  # tries it out and records nothing

The two-layer model of two_layers.py differs from the book's main model in its recipe, too. The
record addlib/data/same_recipe.json has d' between cascades and their twins by answer digit and
distance, for three seeds of each; chapter 09 reads it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from two_layers import RECIPE

from addlib.analysis.sight import says_carry, sight
from addlib.claims import stored
from addlib.device import hardware
from addlib.training.addition import TrainConfig
from addlib.training.runs import Run, load_or_train

SEEDS = (101, 102, 103)

PLAIN = TrainConfig()

CONTROLS = {
    "one_layer": replace(RECIPE, model=replace(RECIPE.model, n_layers=1)),
    "two_layers": replace(PLAIN, model=replace(PLAIN.model, n_layers=2)),
}
"""What is trained, by its name in the record."""


def sights(run: Run, count: int = 1000) -> list[dict[str, float]]:
    """d' at each answer digit with two pairs below or more, by distance of the carry."""
    task = run.config.task
    generator = torch.Generator().manual_seed(run.config.seed + 1)
    rows = []
    for k in range(2, task.n_answer):
        for down in range(1, k + 1):
            said = says_carry(run.model, task, k, down, count, generator)
            rows.append({"digit": k, "down": down, "sight": sight(said)})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="so many in place of the recipes'; no record")
    options = parser.parse_args()
    if options.steps is None:
        stored.clean_revision()
    content = {}
    for name, config in CONTROLS.items():
        content[name] = []
        for seed in SEEDS:
            steps = config.steps if options.steps is None else options.steps
            run = load_or_train(replace(config, seed=seed, steps=steps), options.device)
            content[name].append({"seed": seed, "sights": sights(run)})
            print(name, seed, content[name][-1]["sights"])
    if options.steps is None:
        made_by = "python studies/same_recipe.py"
        print(stored.write("same_recipe", made_by, hardware(run.device), content))


if __name__ == "__main__":
    main()
