"""Activations of many questions at TransformerLens's hook points, batch by batch, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.device import in_batches
from addlib.tasks.addition import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def activations(
    model: TransformerBridge, hook_name: str, questions: Questions, batch_size: int = 512
) -> Float[Tensor, "batch n_ctx ..."]:
    """Activations at a hook point, at all positions, on the CPU."""
    return _collect(model, [hook_name], questions, batch_size, lambda name, value: value)[hook_name]


def answer_activations(
    model: TransformerBridge, hook_names: Sequence[str], questions: Questions, batch_size: int = 512
) -> dict[str, Float[Tensor, "batch ..."]]:
    """Activations at the answer positions, by answer column: ``[:, 0]`` is where A0 is computed.

    They are on the CPU. Attention patterns have a head axis before that of the positions: there it
    is ``[:, :, 0]``.
    """
    task = questions.task

    def at_answers(name: str, value: Tensor) -> Tensor:
        axis = 2 if name.endswith("hook_pattern") else 1
        return task.by_column(value.narrow(axis, task.answer_positions.start, task.n_answer), axis)

    return _collect(model, hook_names, questions, batch_size, at_answers)


@torch.no_grad()
def _collect(
    model: TransformerBridge,
    hook_names: Sequence[str],
    questions: Questions,
    batch_size: int,
    part_of: Callable[[str, Tensor], Tensor],
) -> dict[str, Tensor]:
    """A part of the activations at each hook point, all batches together."""
    device = next(model.parameters()).device
    batches: list[dict[str, Tensor]] = []

    def collect_batch(rows: slice) -> None:
        tokens = questions.tokens[rows].to(device)
        _, cache = model.run_with_cache(tokens, names_filter=list(hook_names))
        batches.append({name: part_of(name, cache[name]).cpu() for name in hook_names})

    in_batches(collect_batch, len(questions), batch_size)
    return {name: torch.cat([batch[name] for batch in batches]) for name in hook_names}
