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
        count: so many last tokens are computed again, 1 for the last position alone.
    """

    @torch.no_grad()
    def __init__(
        self, start: SharedStart, prompts: Int[Tensor, "batch position"], count: int = 1
    ) -> None:
        self.start = start
        self.count = count
        self.last = prompts[:, -count:].to(start.device)
        rest = prompts[:, start.length : -count].to(start.device)
        past = copy.deepcopy(start.past)
        if past is not None:
            past.batch_repeat_interleave(len(prompts))
        given = {"past_key_values": past, "use_cache": True}
        self.past = start.model.base_model(rest, **given).past_key_values
        self._streams: dict[int, Tensor] = {}  # before a layer, without hooks
        self._whole: set[int] = set()  # layers that a run can't begin at

    @torch.no_grad()
    def __call__(
        self,
        hooks: Sequence[Hook] = (),
        tokens: Int[Tensor, " choice"] | None = None,
        first: int = 0,
    ) -> Float[Tensor, "batch choice"]:
        """Logits at the last position, on the CPU; hooks see the last tokens alone.

        Args:
            tokens: whose logits are wanted, which saves most of the unembedding; None: all.
            first: the first layer that any hook acts in, or one before it. The layers before are
                run once, and their outcome is taken again.
        """
        first = self._where(first)
        return self._run(hooks, tokens, first)

    def _run(
        self, hooks: Sequence[Hook], tokens: Int[Tensor, " choice"] | None, first: int
    ) -> Float[Tensor, "batch choice"]:
        """The same, from a layer whose stream is there."""
        trunk = self.start.model.base_model
        into = {"inputs_embeds": self._streams[first]} if first else {"input_ids": self.last}
        every = trunk.layers if first else None
        try:
            if every is not None:
                trunk.layers = every[first:]
            with self.start.bridge.hooks(fwd_hooks=list(hooks)):
                out = trunk(**into, past_key_values=self.past, use_cache=True)
        finally:
            if every is not None:
                trunk.layers = every
            for layer in self.past.layers[first:]:  # what the last tokens added
                layer.crop(-self.count)
        normed = out.last_hidden_state[:, -1]
        if tokens is None:
            return self.start.model.lm_head(normed).cpu()
        return self.start.unembedded(normed, tokens).cpu()

    def _where(self, first: int) -> int:
        """The layer to begin at: ``first``, or 0 where the model does more than run its layers."""
        if first and first not in self._streams and first not in self._whole:

            def keep(value: Tensor, hook: object) -> None:
                self._streams[first] = value.clone()

            two = torch.arange(2)
            plain = self._run([(f"blocks.{first}.hook_resid_pre", keep)], two, 0)
            can = hasattr(self.start.model.base_model, "layers")
            if not can or not torch.allclose(self._run([], two, first), plain, atol=1e-3):
                del self._streams[first]
                self._whole.add(first)
        return 0 if first in self._whole else first

    @torch.no_grad()
    def neurons(
        self, layers: Sequence[int], tokens: Int[Tensor, " choice"] | None = None
    ) -> tuple[Float[Tensor, "layer batch neuron"], Float[Tensor, "batch choice"]]:
        """Activations of the MLPs' neurons at the last position, and the logits, on the CPU."""
        found: dict[int, Tensor] = {}

        def keep(layer: int, value: Tensor, hook: object) -> None:
            found[layer] = value[:, -1].cpu()

        logits = self([(post(layer), partial(keep, layer)) for layer in layers], tokens)
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
