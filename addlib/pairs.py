"""The toy task: one number plus another, ``a b =``, with every pair listed; its split, its model,
its questions.

A number is one token here, so there are no digits and no carries: p numbers make p² pairs, few
enough to be written down whole. Token p is ``=``, and the answer is read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.bounds import check_whole
from addlib.model import boot_bridge, weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class PairTask:
    """Addition of two numbers below p, modulo p or as it is.

    Args:
        p: how many numbers there are, at least 2.
        modular: True answers (a + b) mod p, one of p; False answers a + b, one of 2p outputs (2p -
            1 is never right).

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    p: int = 10
    modular: bool = False

    def __post_init__(self) -> None:
        check_whole(self, {"p": 2})
        if not isinstance(self.modular, bool):
            raise ValueError(f"modular = {self.modular!r}: must be True or False")

    @property
    def equals(self) -> int:
        """Token of ``=``."""
        return self.p

    @property
    def d_vocab(self) -> int:
        """Tokens that can be read: the numbers and ``=``."""
        return self.p + 1

    @property
    def n_ctx(self) -> int:
        """Tokens of a question: a, b and ``=``."""
        return 3

    @property
    def n_outputs(self) -> int:
        """Answers that can be given: p modulo p, 2p otherwise."""
        return self.p if self.modular else 2 * self.p

    def pairs(self) -> Int[Tensor, "p_squared 2"]:
        """All pairs (a, b); pair number a · p + b."""
        numbers = torch.arange(self.p)
        return torch.cartesian_prod(numbers, numbers)

    def tokens(self, pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, "pairs 3"]:
        """Questions as the model reads them: ``(3, 4) → [3, 4, p]``.

        Raises:
            ValueError: a number that is not one of 0 … p - 1.
        """
        if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < self.p:
            raise ValueError(
                f"pairs hold {int(pairs.min())} to {int(pairs.max())}: must be from 0 to "
                f"{self.p - 1}"
            )
        return torch.cat([pairs, pairs.new_full((len(pairs), 1), self.equals)], 1)

    def answers(self, pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, " pairs"]:
        """Right answers: with p = 10, ``7 + 5 → 12``, or 2 modulo 10."""
        total = pairs.sum(-1)
        return total % self.p if self.modular else total


def split(
    task: PairTask, share: float, seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Numbers of the pairs to train on and of those held out, both in random order.

    The pairs are shuffled by a generator of their own, and the first ``share`` of them, rounded
    down, is for training.

    Raises:
        ValueError: a negative seed, or a share that leaves one side empty.
    """
    total = task.p**2
    count = int(share * total + 1e-9) if 0 < share < 1 else 0  # 0.29 · 100 is 28.999…
    if not 0 < count < total:
        raise ValueError(
            f"share = {share!r}: must be between 0 and 1 and leave pairs of p = {task.p} on both "
            f"sides"
        )
    if seed < 0:
        raise ValueError(f"seed = {seed}: must be 0 or more")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:count], order[count:]


@dataclass(frozen=True)
class PairModelConfig:
    """Shape of the one-layer transformer: 4 heads of 32 and 512 neurons by default, as in Nanda et
    al. (ICLR 2023).

    Args:
        n_heads: attention heads; must divide ``width``.
        width: the residual width, d_model. The MLP has four times as many neurons.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    n_heads: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        check_whole(self, {"n_heads": 1, "width": 1})
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
    """A freshly initialised TransformerLens bridge: one layer, ReLU, learned positions, no
    normalisation.

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
    """Logits of the answer, read at ``=``, from the library's own forward, so that its hooks apply."""
    device = next(model.parameters()).device
    return model(task.tokens(pairs).to(device))[:, -1]


@dataclass(frozen=True)
class PairPaths:
    """What a one-layer pair model computes at ``=``, in float64: pair number a · p + b in row a · p
    + b.
    """

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
    """The forward of all p² pairs with its paths kept apart, so that each can be told another
    embedding.

    In one layer a number reaches the logits in three ways: through the keys (how much attention it
    gets), through the values into the MLP, and through the values straight to the unembedding.
    Without replacements this is the model.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.model.weights`.
        keys, values, direct: W_E's rows of the numbers as each way sees them; default the model's
            own.
        pattern: attention in place of the model's own, for each pair or, with one row, for all.
    """
    w = {name: p.detach().double() for name, p in weights.items()}
    own, position = w["embed.weight"], w["pos_embed.weight"]
    a, b = task.pairs().T.to(own.device)
    equals = own[task.p] + position[2]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"blocks.0.attn.{name}.weight"].T + w[f"blocks.0.attn.{name}.bias"]

    def per_head(name: str, table: Tensor | None) -> Float[Tensor, "pairs 3 heads d_head"]:
        table = own[: task.p] if table is None else table.to(own)
        rows = torch.stack(
            [table[a] + position[0], table[b] + position[1], equals.expand(len(a), -1)], 1
        )
        return linear(name, rows).unflatten(-1, (config.n_heads, config.d_head))

    query = linear("q", equals).view(config.n_heads, config.d_head)
    if pattern is None:
        pattern = ((per_head("k", keys) * query).sum(-1) / config.d_head**0.5).softmax(1)

    def resid_mid(table: Tensor | None) -> Float[Tensor, "pairs d_model"]:
        z = (pattern[..., None] * per_head("v", table)).sum(1)
        return equals + linear("o", z.flatten(1))

    mid = resid_mid(values)
    past = mid if direct is values else resid_mid(direct)
    return PairPaths(pattern.expand(len(a), -1, -1), mid, *_read(w, mid, past))


@torch.no_grad()
def logits_from(
    weights: Mapping[str, Tensor], mid: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "rows n_outputs"]:
    """Logits of what the residual stream holds at ``=`` before the MLP, in float64."""
    return _read(
        {name: p.detach().double() for name, p in weights.items()}, mid.double(), mid.double()
    )[1]


def _read(w: Mapping[str, Tensor], mid: Tensor, direct: Tensor) -> tuple[Tensor, Tensor]:
    """Neurons before the ReLU, and logits, where the MLP reads ``mid`` and adds to ``direct``."""
    pre = mid @ w["blocks.0.mlp.in.weight"].T + w["blocks.0.mlp.in.bias"]
    out = pre.relu() @ w["blocks.0.mlp.out.weight"].T + w["blocks.0.mlp.out.bias"]
    return pre, (direct + out) @ w["unembed.weight"].T
