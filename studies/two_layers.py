"""A recipe for at most one wrong sum in a million: two layers, enriched cascades, a falling rate.

    python studies/two_layers.py    # trains: about 40 minutes on one CPU thread; counts; records

The book's main model has to guess in long cascades: at each answer position it tells hardly more
than three pairs. A second layer can go on from what the first wrote; the recipe is another one, too
(same_recipe.py swaps them). The record in addlib/data/two_layers.json
says how the run was made and how many of a million uniform sums, and of 100,000 generated ones of
each cascade length, came out wrong.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from addlib.analysis.ablation import Ablation, hooks
from addlib.analysis.answers import answer
from addlib.analysis.state_exchange import exchange_states
from addlib.claims import stored
from addlib.device import hardware
from addlib.models.addition import ModelConfig
from addlib.stats import wilson_interval
from addlib.tasks.addition import Questions
from addlib.tasks.sampling import cascade_questions, nine_rich_questions, uniform_questions
from addlib.training.addition import TrainConfig
from addlib.training.runs import Run, load_or_train

RECIPE = TrainConfig(
    model=ModelConfig(n_layers=2, n_heads=3, width=192),
    steps=20_000,
    lr=1e-3,
    warmup_steps=200,
    final_lr_share=0.01,
    enrich_every=2,
    enrich_share=0.3,
    snapshot_every=2000,
)


def count_wrong(run: Run, questions: Questions) -> dict[str, Any]:
    """How many sums are wrong, with a 95 % Wilson interval of the accuracy."""
    given = answer(run.model, questions, progress=True)
    wrong = int((~given.right).sum())
    return {
        "questions": len(questions),
        "wrong": wrong,
        "accuracy": 1 - wrong / len(questions),
        "interval": wilson_interval(len(questions) - wrong, len(questions)),
        "mean_loss": float(given.nll.double().mean()),
    }


def question_positions(run: Run, questions: Questions, other: Questions) -> list[dict[str, Any]]:
    """Accuracy when what each layer writes at the question's positions is taken away."""
    before = range(run.config.task.answer_positions.start)
    rows = []
    for layer, name in enumerate(("first layer", "second layer")):
        for method, word in (("zero", "zeros"), ("swap", "another question's")):
            both = [Ablation(part, None, layer, before, method) for part in ("attn_out", "mlp_out")]
            given = answer(run.model, questions, hooks=hooks(run.model, both, other))
            rows.append(
                {"layer": name, "method": word, "accuracy": given.right.float().mean().item()}
            )
    return rows


def exchanges(run: Run, generator: torch.Generator, count: int = 4000) -> list[dict[str, Any]]:
    """For each pair the shares of chapter 09: answers that change, and those that obey."""
    questions = nine_rich_questions(run.config.task, count, generator)
    rows = []
    for j in range(run.config.task.n_digits):
        changed, obeyed = exchange_states(run.model, questions, j, generator)
        rows.append({"pair": j, "changed": changed.share, "obeyed": obeyed.share})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    parser.add_argument(
        "--uniform",
        type=int,
        default=1_000_000,
        help="uniform sums to answer (default: %(default)s)",
    )
    parser.add_argument(
        "--per-length", type=int, default=100_000, help="sums of each length (default: %(default)s)"
    )
    options = parser.parse_args()
    stored.clean_revision()
    run = load_or_train(RECIPE, options.device)
    task, generator = run.config.task, torch.Generator().manual_seed(RECIPE.seed + 1)
    by_length = {
        length: count_wrong(run, cascade_questions(task, length, options.per_length, generator))
        for length in range(task.n_digits)
    }
    content = {
        "recipe": {
            "layers": RECIPE.model.n_layers,
            "heads": RECIPE.model.n_heads,
            "d_model": RECIPE.model.d_model,
            "steps": RECIPE.steps,
            "batch_size": RECIPE.batch_size,
            "lr": RECIPE.lr,
            "final_lr_share": RECIPE.final_lr_share,
            "warmup_steps": RECIPE.warmup_steps,
            "enrich_every": RECIPE.enrich_every,
            "enrich_share": RECIPE.enrich_share,
            "seed": RECIPE.seed,
        },
        "training": run.record,
        "uniform": count_wrong(run, uniform_questions(task, options.uniform, generator)),
        "by_length": by_length,
        "question_positions": question_positions(
            run, uniform_questions(task, 2000, generator), uniform_questions(task, 2000, generator)
        ),
        "exchanges": exchanges(run, generator),
    }
    print(stored.write("two_layers", "python studies/two_layers.py", hardware(run.device), content))
    print(f"{content['uniform']['wrong']} wrong of {options.uniform:,} uniform sums")
    for length, row in by_length.items():
        print(f"{row['wrong']} wrong of {options.per_length:,} of cascade length {length}")


if __name__ == "__main__":
    main()
