"""The small models of the chapters on shelves: three digits, a narrow residual stream, few steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig, Trainer
from addlib.training.runs import Run

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def small_config(steps: int, width: int, n_heads: int, seed: int) -> TrainConfig:
    """The configuration from which all the others differ in one or two things."""
    return TrainConfig(
        task=AdditionTask(3),
        model=ModelConfig(n_heads=n_heads, width=width),
        steps=steps,
        lr=5e-4,
        snapshot_every=125,
        seed=seed,
    )


def variants(base: TrainConfig) -> dict[str, TrainConfig]:
    """The base, and what becomes of it when its task, network, optimiser or batch is changed."""
    shape, task = base.model, base.task
    no_carry = replace(task, carry=False)
    no_mlp = replace(shape, attn_only=True)
    return {
        "base": base,
        "no carry": replace(base, task=no_carry),
        "units first": replace(base, task=replace(task, answer_order="lsd")),
        "no MLP": replace(base, model=no_mlp, steps=2 * base.steps),
        "no MLP, 8 heads": replace(base, model=replace(no_mlp, n_heads=8), steps=2 * base.steps),
        "no MLP, no carry": replace(base, model=no_mlp, task=no_carry),
        "weight decay 0": replace(base, weight_decay=0.0),
        "weight decay 0.5": replace(base, weight_decay=0.5),
        "two layers": replace(base, model=replace(shape, n_layers=2)),
        "width doubled": replace(base, model=replace(shape, width=2 * shape.width)),
        "batch 256": replace(base, batch_size=256),
        "batch 256, decay 0.5": replace(base, batch_size=256, weight_decay=0.5),
    }


def reused_questions(base: TrainConfig) -> dict[str, TrainConfig]:
    """Runs that see the same few questions again and again, with weak or strong weight decay."""
    return {
        f"{size:,} questions, decay {decay:g}": replace(
            base,
            dataset_size=size,
            enrich_every=0,
            weight_decay=decay,
            steps=2 * base.steps,
            snapshot_every=max(1, base.steps // 6),
        )
        for size, decay in ((512, 0.1), (512, 1.0), (1024, 1.0))
    }


def cooled(run: Run, at: int, steps: int, seed: int) -> TransformerBridge:
    """A run's model trained on from a snapshot, while the learning rate falls to 0.

    The optimiser starts anew, with the run's own warm-up.

    Args:
        at: the snapshot's step. steps: so many more, on new questions. seed: of these questions.

    Raises:
        ValueError: no weights were kept after this step.
    """
    assert isinstance(run.config, TrainConfig)
    config = replace(run.config, steps=steps, final_lr_share=0.0, seed=seed)
    trainer = Trainer(config, str(run.device))
    kept = run.snapshot(at)
    with torch.no_grad():
        for name, values in weights(trainer.model).items():
            values.copy_(kept[name])
    trainer.train()
    return trainer.model
