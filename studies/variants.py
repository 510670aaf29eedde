"""Other sizes of the addition model: where their heads look, what they get wrong, who does what.

    python studies/variants.py               # trains what is missing, measures, records
    python studies/variants.py "two layers"  # measures the named ones anew and keeps the others

The record is addlib/data/variants.json. Half the width of the book's model at a higher learning
rate, so that one CPU thread trains most of them in minutes. The variant ``reduced`` differs from
the book's model in nothing else; what it shares with ``full`` is what the smaller size can stand
for. The two-layer model is the one of two_layers.py.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from two_layers import RECIPE

from addlib.analysis.ablation import Ablation, hooks
from addlib.analysis.answers import answer
from addlib.analysis.roles import answer_patterns, find_roles, pair_attention
from addlib.claims import stored
from addlib.device import hardware
from addlib.models.addition import ModelConfig
from addlib.stats import wilson_interval
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import cascade_questions, uniform_questions
from addlib.training.addition import TrainConfig
from addlib.training.runs import Run, load_or_train

REDUCED = TrainConfig(model=ModelConfig(width=256), lr=2e-4, snapshot_every=5000)

VARIANTS = {
    "full": TrainConfig(),
    "reduced": REDUCED,
    "2 heads": replace(REDUCED, model=ModelConfig(n_heads=2, width=256)),
    "4 heads": replace(REDUCED, model=ModelConfig(n_heads=4, width=256)),
    "more enrichment": replace(REDUCED, enrich_every=2),
    "two layers": RECIPE,
    "10 digits": replace(REDUCED, task=AdditionTask(10)),
    "15 digits": replace(REDUCED, task=AdditionTask(15)),
    "30,000 steps": replace(REDUCED, steps=30_000),
    "2 digits": replace(REDUCED, task=AdditionTask(2)),
    "units first": replace(REDUCED, task=AdditionTask(answer_order="lsd")),
    # the published sizes: as wide as the book's model, with its learning rate
    "2 heads, width 512": TrainConfig(model=ModelConfig(n_heads=2)),
    "4 heads, width 512": TrainConfig(model=ModelConfig(n_heads=4)),
}


def measure(run: Run, per_length: int = 5000, sample: int = 1500) -> dict[str, Any]:
    """What the chapters' tables show of one variant."""
    config, task = run.config, run.config.task
    generator = torch.Generator().manual_seed(config.seed + 1)
    uniform = answer(run.model, uniform_questions(task, 20_000, generator))
    right = int(uniform.right.sum())
    by_length = {}
    for length in range(task.n_digits):
        asked = answer(run.model, cascade_questions(task, length, per_length, generator))
        hits = int(asked.right.sum())
        by_length[length] = {
            "accuracy": hits / per_length,
            "interval": wilson_interval(hits, per_length),
        }
    questions = uniform_questions(task, sample, generator)
    return {
        "n_digits": task.n_digits,
        "n_layers": config.model.n_layers,
        "n_heads": config.model.n_heads,
        "d_model": config.model.d_model,
        "steps": config.steps,
        "lr": config.lr,
        "enrich_every": config.enrich_every,
        "seed": config.seed,
        "final_loss": float(run.history.loss[-100:].mean()),
        "training_seconds": run.record["seconds"],
        "accuracy": right / len(uniform.right),
        "interval": wilson_interval(right, len(uniform.right)),
        "by_length": by_length,
        "heads": heads(run, questions),
    }


def heads(run: Run, questions: Questions) -> list[dict[str, Any]]:
    """Role of each head, where it looks, what leaving it out changes.

    Accuracy by class is that with the head's output at its mean over other uniform questions. Losses
    (nats, by class) are those of the answer's digits with its values at zero.
    """
    config = run.config
    reference = uniform_questions(
        config.task, len(questions), torch.Generator().manual_seed(config.seed + 2)
    )
    before = answer(run.model, questions)
    rows = []
    for layer in range(config.model.n_layers):
        looks = pair_attention(answer_patterns(run.model, questions, layer).mean(0), config.task)
        for role in find_roles(run.model, questions, layer):
            ablation = hooks(run.model, [Ablation("z", role.head, layer)], reference)
            after = answer(run.model, questions, hooks=ablation)
            zero = hooks(run.model, [Ablation("v", role.head, layer, method="zero")])
            zeroed = answer(run.model, questions, hooks=zero)
            rows.append(
                {
                    "layer": layer,
                    "role": role.name,
                    "offset": role.offset,
                    "share": role.share,
                    # by answer column and pair column, units first
                    "pair_attention": [
                        [round(x, 4) for x in row] for row in looks[role.head].tolist()
                    ],
                    "loss_zeroed": {
                        name: _mean(zeroed.nll.mean(1), questions.question_class == code)
                        for code, name in enumerate(BUCKETS)
                    },
                    "loss_with": {
                        name: _mean(before.nll.mean(1), questions.question_class == code)
                        for code, name in enumerate(BUCKETS)
                    },
                    "accuracy_without": {
                        name: _mean(after.right, questions.question_class == code)
                        for code, name in enumerate(BUCKETS)
                    },
                    "accuracy_with": {
                        name: _mean(before.right, questions.question_class == code)
                        for code, name in enumerate(BUCKETS)
                    },
                }
            )
    return rows


def _mean(right: torch.Tensor, which: torch.Tensor) -> float | None:
    return right[which].float().mean().item() if which.any() else None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help=f"variants to measure anew (default: all): {', '.join(VARIANTS)}"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(VARIANTS):
        parser.error(
            f"unknown variants: {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}"
        )
    stored.clean_revision()
    try:
        measured = stored.read("variants")["variants"] if options.names else {}
    except ValueError:
        measured = {}
    for name in options.names or VARIANTS:
        run = load_or_train(VARIANTS[name], options.device)
        measured[name] = measure(run)
        print(f"{name}: {measured[name]['accuracy']:.2%} right", flush=True)
        ordered = {name: measured[name] for name in VARIANTS if name in measured}
        stored.write(
            "variants", "python studies/variants.py", hardware(run.device), {"variants": ordered}
        )


if __name__ == "__main__":
    main()
