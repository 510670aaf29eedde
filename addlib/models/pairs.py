"""The pair model, its exact short forward for training, and its forward with the paths kept apart.

In one layer without normalisation nothing but attention's softmax and the ReLU stands between an
embedding and the logits, so both forwards can be written out in a few lines. Each is equal to the
library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_whole
from addlib.models.bridge import boot_bridge, weights
from addlib.tasks.pairs import PairTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class PairModelConfig:
    """Shape of the one-layer transformer; by default 4 heads, as in Nanda et al. (ICLR 2023).

    Args:
        n_heads: attention heads; must divide ``width``.
        width: the residual width, d_model. The MLP has four times as many neurons.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    n_heads: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        check_whole(self, 1, "n_heads", "width")
        if self.width % self.n_heads:
            raise ValueError(f"n_heads = {self.n_heads}: must divide width = {self.width}")

    @property
    def d_model(self) -> int:
        """Residual width."""
        return self.width

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.width // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Neurons, 4 · d_model."""
        return 4 * self.width


def build_pair_model(
    config: PairModelConfig, task: PairTask, seed: int, device: str = "cpu", biases: bool = False
) -> TransformerBridge:
    """A freshly initialised TransformerLens bridge: one layer, ReLU, no normalisation.

    Weights are drawn on the CPU from ``seed`` alone: normal with standard deviation 0.8/√d_model,
    and W_O and W_out smaller by √2. Biases start at 0; without ``biases`` they need no gradient and
    stay there. The library's unembedding has none.
    """
    model = boot_bridge(
        config, task, seed, device, n_layers=1, d_vocab_out=task.n_outputs, normalization_type=None
    )
    if not biases:
        for name, p in weights(model).items():
            if name.endswith(".bias"):
                p.requires_grad_(False)
    return model


def pair_logits(
    model: TransformerBridge, task: PairTask, pairs: Int[Tensor, "pairs 2"]
) -> Float[Tensor, "pairs n_outputs"]:
    """Logits of the answer, read at ``=``, from the library's own forward: its hooks apply."""
    device = next(model.parameters()).device
    return model(task.tokens(pairs).to(device))[:, -1]


# --------------------------------------------------------------------- short forward
NEGLIGIBLE = 1e-30
"""Gradients below it count as 0. A model that has memorised its pairs gives wrong answers
probabilities of 1e-40 and less; in float32 such numbers are subnormal, and a processor multiplies
them several times more slowly than others.
"""


class PairForward:
    """Logits at ``=``, equal to the library's, for a part of its work.

    1. Only the last position's logits are used, so queries, W_O, the MLP and the unembedding are
        needed there only.
    2. That position always holds ``=``, so its query is one vector, and its score on a number
       depends on that number and its position alone: p numbers per head and position. Values are
       such tables, too.
    3. A pattern sums to 1. With the value at ``=`` taken from the others, ``=`` adds a constant.
    4. Nothing but the ReLU stands between a head's output z and the logits, so W_in W_O and W_U
       W_out can be single matrices, multiplied once for all pairs where there are many.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.models.bridge.weights`; they
            receive the gradients.
        config, task: the bridge's shape, and the task whose pairs come in.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: PairModelConfig, task: PairTask
    ) -> None:
        self.weights = weights
        self.config = config
        self.task = task
        # A tensor, made once: a list would be copied to the device at every call.
        self.offsets = torch.tensor([0, task.p], device=weights["embed.weight"].device)

    def with_weights(self, weights: Mapping[str, Tensor]) -> PairForward:
        """The same forward of another model of this shape, on this device."""
        other = copy(self)
        other.weights = weights
        return other

    def __call__(self, pairs: Int[Tensor, "pairs 2"]) -> Float[Tensor, "pairs n_outputs"]:
        """Logits of the answers; numbers must be below p and on the weights' device."""
        w = self.weights
        z, always = self._attention(pairs)
        write = w["blocks.0.attn.o.weight"]
        read, bias_in = w["blocks.0.mlp.in.weight"], w["blocks.0.mlp.in.bias"]
        out, bias_out = w["blocks.0.mlp.out.weight"], w["blocks.0.mlp.out.bias"]
        unembed = w["unembed.weight"]
        hidden = _two_maps(always @ read.T + bias_in, z, write, read).relu_()
        direct = _two_maps((always + bias_out) @ unembed.T, z, write, unembed)
        return _two_maps(direct, hidden, out, unembed)

    def _attention(
        self, pairs: Tensor
    ) -> tuple[Float[Tensor, "pairs d_model"], Float[Tensor, "1 d_model"]]:
        """All heads' z less their values of ``=``, and what all pairs share of resid_mid."""
        heads, d_head, p = self.config.n_heads, self.config.d_head, self.task.p
        embed, position = self.weights["embed.weight"], self.weights["pos_embed.weight"]
        equals = embed[p:] + position[2:]
        source = torch.cat([embed[:p] + position[0], embed[:p] + position[1], equals])
        q = self._linear("q", equals).view(heads, d_head, 1)
        k, v = self._linear("k", source), self._linear("v", source)  # (2p + 1, d_model)
        scores = (k.view(-1, heads, d_head).transpose(0, 1) @ q)[..., 0].T / d_head**0.5
        rows = pairs + self.offsets  # (pairs, 2)
        # F.embedding, not indexing: the gradient of indexing adds up in any order when there are
        # several threads.
        on_numbers = F.embedding(rows, scores)  # (pairs, 2, heads)
        on_equals = scores[-1:].expand(len(pairs), 1, heads)
        pattern = torch.cat([on_numbers, on_equals], 1).softmax(1)[..., None]
        values = v[:-1] - v[-1]
        from_a, from_b = (F.embedding(rows[:, i], values).view(-1, heads, d_head) for i in (0, 1))
        z = torch.addcmul(pattern[:, 0] * from_a, pattern[:, 1], from_b).flatten(1)
        return z, equals + self._linear("o", v[-1:])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"blocks.0.attn.{name}.weight"]
        return F.linear(x, weight, self.weights[f"blocks.0.attn.{name}.bias"])


def _two_maps(start: Tensor, x: Tensor, first: Tensor, second: Tensor) -> Float[Tensor, "rows out"]:
    """``start + x @ first.T @ second.T``, in the order that takes fewer multiplications."""
    rows, outer = len(x), len(second)
    middle, inner = first.shape
    if rows * middle * (inner + outer) < inner * outer * (middle + rows):
        return torch.addmm(start, x @ first.T, second.T)
    return torch.addmm(start, x, (second @ first).T)


def embedded_logits(
    weights: Mapping[str, Tensor],
    config: PairModelConfig,
    first: Float[Tensor, "pairs d_model"],
    second: Float[Tensor, "pairs d_model"],
) -> Float[Tensor, "pairs n_outputs"]:
    """Logits for pairs of embedded numbers, which need not be the model's own; differentiable."""
    n = len(first)
    each_its_token = torch.cat([first, second, weights["embed.weight"][-1:]])
    forward = PairForward({**weights, "embed.weight": each_its_token}, config, PairTask(2 * n))
    rows = torch.arange(n, device=first.device)
    return forward(torch.stack([rows, rows + n], 1))


@torch.no_grad()
def loss_and_gradient(
    logits: Float[Tensor, "pairs n_outputs"], answers: Int[Tensor, " pairs"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "pairs n_outputs"]]:
    """Mean of -log p(right answer) in nats, and its gradient in the logits, by one float64 softmax.

    In float32 a loss below about 1e-7 would be rounded to 0, and training would stop there.
    """
    shifted = logits.double()
    shifted -= shifted.amax(-1, keepdim=True)
    truth = shifted.gather(1, answers[:, None])
    weight = shifted.exp_()
    total = weight.sum(-1, keepdim=True)
    loss = (total.log() - truth).mean()
    gradient = weight.div_(total * len(logits))
    gradient.scatter_add_(1, answers[:, None], torch.full_like(truth, -1 / len(logits)))
    return loss, F.hardshrink(gradient, NEGLIGIBLE).to(logits.dtype)


def accuracy(
    logits: Float[Tensor, "pairs n_outputs"], answers: Int[Tensor, " pairs"]
) -> Float[Tensor, ""]:
    """Share of pairs whose largest logit is the right one."""
    return (logits.argmax(-1) == answers).double().mean()


# ------------------------------------------------------------------- paths kept apart
@dataclass(frozen=True)
class PairPaths:
    """What a one-layer pair model computes at ``=``, in float64; row a · p + b is of (a, b)."""

    pattern: Float[Tensor, "pairs 3 heads"]  # attention from = to a, to b and to = itself
    mid: Float[Tensor, "pairs d_model"]  # the residual stream that the MLP reads
    pre: Float[Tensor, "pairs neuron"]  # the neurons before their ReLU
    logits: Float[Tensor, "pairs n_outputs"]


@torch.no_grad()
def pair_paths(
    weights: Mapping[str, Tensor],
    config: PairModelConfig,
    task: PairTask,
    keys: Float[Tensor, "p d_model"] | None = None,
    values: Float[Tensor, "p d_model"] | None = None,
    direct: Float[Tensor, "p d_model"] | None = None,
    pattern: Float[Tensor, "#pairs 3 heads"] | None = None,
) -> PairPaths:
    """The forward of all p² pairs, in which each path can be told another embedding.

    In one layer a number reaches the logits in three ways: through the keys (how much attention it
    gets), through the values into the MLP, and through the values straight to the unembedding.
    Without replacements this is the model.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.models.bridge.weights`.
        keys, values, direct: W_E's rows of the numbers as each way sees them; default the model's
            own.
        pattern: attention in place of the model's own, for each pair or, with one row, for all.
    """
    w = _in_float64(weights)
    embed, position = w["embed.weight"], w["pos_embed.weight"]
    a, b = task.pairs().T.to(embed.device)
    equals = embed[task.p] + position[2]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"blocks.0.attn.{name}.weight"].T + w[f"blocks.0.attn.{name}.bias"]

    def per_head(name: str, table: Tensor | None) -> Float[Tensor, "pairs 3 heads d_head"]:
        table = embed[: task.p] if table is None else table.to(embed)
        at_equals = equals.expand(len(a), -1)
        rows = torch.stack([table[a] + position[0], table[b] + position[1], at_equals], 1)
        return linear(name, rows).unflatten(-1, (config.n_heads, config.d_head))

    if pattern is None:
        query = linear("q", equals).view(config.n_heads, config.d_head)
        pattern = ((per_head("k", keys) * query).sum(-1) / config.d_head**0.5).softmax(1)
    attention = pattern

    def resid_mid(table: Tensor | None) -> Float[Tensor, "pairs d_model"]:
        z = (attention[..., None] * per_head("v", table)).sum(1)
        return equals + linear("o", z.flatten(1))

    mid = resid_mid(values)
    past = mid if direct is values else resid_mid(direct)
    return PairPaths(attention.expand(len(a), -1, -1), mid, *_read(w, mid, past))


@torch.no_grad()
def logits_from(
    weights: Mapping[str, Tensor], mid: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows n_outputs"]:
    """Logits of what the residual stream holds at ``=`` before the MLP, in float64."""
    _, logits = _read(_in_float64(weights), mid.double(), mid.double())
    return logits


def _in_float64(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach().double() for name, p in weights.items()}


def _read(w: Mapping[str, Tensor], mid: Tensor, direct: Tensor) -> tuple[Tensor, Tensor]:
    """Neurons before the ReLU, and logits, where the MLP reads ``mid`` and adds to ``direct``."""
    pre = mid @ w["blocks.0.mlp.in.weight"].T + w["blocks.0.mlp.in.bias"]
    out = pre.relu() @ w["blocks.0.mlp.out.weight"].T + w["blocks.0.mlp.out.bias"]
    return pre, (direct + out) @ w["unembed.weight"].T
