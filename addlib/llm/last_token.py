"""Runs of prompts of which only the last token is computed again, for interventions at ``=``.

What is done at the last position changes nothing at the others: attention is causal. So the keys
and values of all tokens but the last are computed once, and each run costs one token a prompt.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.grading import Hook, SharedStart


class LastToken:
    """Prompts of one length, ready to be run with hooks at their last position.

    Args:
        start: of the examples that the prompts begin with.
        prompts: whole prompts.
    """

    @torch.no_grad()
    def __init__(self, start: SharedStart, prompts: Int[Tensor, "batch position"]) -> None:
        self.start = start
        self.last = prompts[:, -1:].to(start.device)
        rest = prompts[:, start.length : -1].to(start.device)
        past = copy.deepcopy(start.past)
        if past is not None:
            past.batch_repeat_interleave(len(prompts))
        self.past = start.model(
            rest, past_key_values=past, use_cache=True, logits_to_keep=1
        ).past_key_values

    @torch.no_grad()
    def __call__(self, hooks: Sequence[Hook] = ()) -> Float[Tensor, "batch d_vocab"]:
        """Logits at the last position, on the CPU; hooks see that position alone."""
        with self.start.bridge.hooks(fwd_hooks=list(hooks)):
            out = self.start.model(self.last, past_key_values=self.past, use_cache=True)
        self.past.crop(-1)
        return out.logits[:, -1].cpu()

    @torch.no_grad()
    def neurons(
        self, layers: Sequence[int]
    ) -> tuple[Float[Tensor, "layer batch neuron"], Float[Tensor, "batch d_vocab"]]:
        """Activations of the MLPs' neurons at the last position, and the logits, on the CPU."""
        found: dict[int, Tensor] = {}

        def keep(layer: int, value: Tensor, hook: object) -> None:
            found[layer] = value[:, -1].cpu()

        logits = self([(post(layer), partial(keep, layer)) for layer in layers])
        return torch.stack([found[layer] for layer in layers]), logits


def post(layer: int) -> str:
    """The hook point of a layer's neurons, where they are written to the residual stream."""
    return f"blocks.{layer}.mlp.hook_post"


def exchanged(
    where: Bool[Tensor, "layer neuron"],
    values: Float[Tensor, "layer batch neuron"] | Float[Tensor, "layer 1 neuron"],
    layers: Sequence[int] | None = None,
) -> list[Hook]:
    """Hooks that put values in the place of some neurons' activations at the last position.

    Args:
        where: which neurons, layer by layer. values: for each prompt, or the same for all.
        layers: the numbers of these layers; None: 0, 1, 2, ….
    """

    def put(row: int, value: Tensor, hook: object) -> Tensor:
        value = value.clone()
        new = values[row].to(value)
        value[:, -1] = torch.where(where[row].to(value.device), new, value[:, -1])
        return value

    numbers = range(len(where)) if layers is None else layers
    return [
        (post(layer), partial(put, row)) for row, layer in enumerate(numbers) if where[row].any()
    ]
