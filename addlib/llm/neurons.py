"""MLP neurons of a language model at the last position: which matter, and what a few can do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.llm.grading import Hook, SharedStart
from addlib.llm.last_token import exchanged, post
from addlib.patching.metrics import Metric


@dataclass(frozen=True)
class RankedNeurons:
    """The neurons of all layers at the last position, by how much a metric depends on them."""

    start: SharedStart
    means: Float[Tensor, "layer neuron"]  # activations over the prompts that ranked them
    importance: Float[Tensor, "layer neuron"]  # nats; on the CPU

    @property
    def ranked(self) -> Int[Tensor, " neuron"]:
        """All neurons, the most important first; the first layer's are counted first."""
        return self.importance.flatten().argsort(descending=True)

    def only(self, kept: Int[Tensor, " kept"]) -> list[Hook]:
        """Hooks that set all neurons at the last position but these to their means.

        Args:
            kept: numbers of neurons, as in :attr:`ranked`.
        """
        out = torch.ones(self.importance.numel(), dtype=torch.bool)
        out[kept] = False
        return exchanged(out.view(self.importance.shape), self.means[:, None])


@torch.enable_grad()
def rank_neurons(
    start: SharedStart, prompts: Int[Tensor, "batch position"], metric: Metric
) -> RankedNeurons:
    """Rank the neurons by what the metric would lose at their means, to first order.

    A neuron's importance is \\|(activation − its mean over the prompts) · slope of the metric\\|,
    averaged over the prompts; one forward and one backward give all.

    Args:
        prompts: whole prompts, which begin with the examples of ``start``.
        metric: differentiable; of the logits at the last position, one number for each prompt.
    """
    n_layers: Any = start.bridge.cfg.n_layers
    posts = [post(layer) for layer in range(n_layers)]
    kept: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor, hook: object) -> Tensor:
        kept[name] = value
        return value

    logits = start(prompts, hooks=[(name, partial(keep, name)) for name in posts])
    every = [kept[name] for name in posts]
    slope_of_each = torch.autograd.grad(metric(logits[:, -1]).sum(), every)
    activations = torch.stack([value.detach()[:, -1] for value in every])
    slopes = torch.stack([slope[:, -1] for slope in slope_of_each])
    means = activations.mean(1)  # (layer, neuron)
    importance = ((activations - means[:, None]) * slopes).abs().mean(1)
    return RankedNeurons(start, means, importance.cpu())


def matched(
    sizes: Float[Tensor, "layer neuron"], chosen: Int[Tensor, " chosen"], banned: Int[Tensor, " n"]
) -> Int[Tensor, " chosen"]:
    """For each neuron another one of its layer with nearly its size, none of them twice.

    Args:
        sizes: of all neurons. chosen, banned: numbers of neurons, as in
            :attr:`RankedNeurons.ranked`; the banned ones are not taken.
    """
    free = sizes.clone()
    free.view(-1)[banned] = torch.inf
    found = []
    for number in chosen.tolist():
        layer = number // sizes.shape[1]
        nearest = int((free[layer] - sizes.view(-1)[number]).abs().argmin())
        free[layer, nearest] = torch.inf
        found.append(layer * sizes.shape[1] + nearest)
    return chosen.new_tensor(found)
