"""The exact short forward of one-layer models: the same logits, a fifth of the arithmetic.

Four facts about a one-layer model on this task make most of its ordinary forward unnecessary.

1. Only the n + 1 answer positions have logits that are used, and nothing reads the other positions'
   outputs. So queries, W_O, the MLP and the unembedding are needed at those positions only.
2. Before attention, an activation is the sum of two *sources*, its token's embedding and its
   position's. LayerNorm centres them and divides by one number per (token, position), so a
   projection of all rows follows from that of the B + 2 tokens and 3n + 2 positions.
3. Attention scores have only (query row, key row) as arguments. They form one small table per head,
   and a question's scores are looked up.
4. So what attention writes is, per head, a combination of the sources' images under W_V W_O. A
   question enters by its coefficients alone, about a hundred numbers where the residual stream has
   510, and the MLP's W_in can be applied to the images before any question is seen: LayerNorm again
   divides by one number.

The parameters are the bridge's own. For training, :func:`aligned_weights` moves the MLP's into
zero-padded storage first: matrix products are about a tenth faster when every side is a multiple of
16, and zeros change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

EPS = 1e-5
"""LayerNorm's epsilon in the native bridge."""


def covers(config: ModelConfig | TransformerBridgeConfig) -> bool:
    """Whether the short forward is exact: one layer, LayerNorm, with or without a ReLU MLP.

    The book's own configurations don't say the last two, which are always so there.
    """
    ways = getattr(config, "normalization_type", "LN"), getattr(config, "act_fn", "relu")
    return config.n_layers == 1 and ways == ("LN", "relu")


@dataclass(frozen=True)
class Rows:
    """The (token, position) rows that occur in questions, by position, all but the last token's."""

    # 1 at the row's token and at its position; tokens first, then positions
    sources: Float[Tensor, "rows sources"]
    # row of token 0 at each position; where a sign stands, the sign's row less the sign's token
    first: Int[Tensor, " read_positions"]
    # rows from here on are the rows of answer positions
    first_query: int
    # positions that an answer position must not read
    later: Bool[Tensor, "n_answer read_positions"]

    @classmethod
    def of(cls, task: AdditionTask, device: torch.device) -> Rows:
        """The rows of a task's questions."""
        read = task.n_ctx - 1
        signs = {task.n_digits: [task.plus], 2 * task.n_digits + 1: [task.equals]}
        first = []
        rows: list[tuple[int, int]] = []
        for p in range(read):
            tokens = signs.get(p, range(task.base))
            first.append(len(rows) - tokens[0])
            rows += [(token, p) for token in tokens]
        token, position = torch.tensor(rows, device=device).T
        answers = torch.tensor(task.answer_positions, device=device)
        return cls(
            torch.cat([F.one_hot(token, task.d_vocab), F.one_hot(position, read)], 1).float(),
            torch.tensor(first, device=device),
            int((position < answers[0]).sum()),
            torch.arange(read, device=device) > answers[:, None],
        )


def aligned_weights(model: TransformerBridge) -> dict[str, Tensor]:
    """The model's parameters by name, those of the MLP larger, with zeros at their ends.

    The model's own MLP parameters become views into the larger leaf tensors, so both always hold
    the same values. Zero rows and columns receive zero gradients, and AdamW leaves them at zero.
    Gradients land in the returned tensors.
    """
    values = weights(model)
    for name, p in values.items():
        if ".mlp." in name:
            padding = [size for side in reversed(p.shape) for size in (0, -side % 16)]
            padded = F.pad(p.detach(), padding)
            p.data = padded[tuple(slice(side) for side in p.shape)]
            values[name] = padded.requires_grad_()
    return values


class FastForward:
    """Answer logits of one-layer bridges for one task; call it like ``answer_logits``.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.models.bridge.weights` or
            :func:`aligned_weights`; they receive the gradients.
        config: the bridge's shape, as it was built or its own ``cfg``; :func:`covers` must hold.
        task: the task whose questions come in. Tokens must be digits, ``+`` and ``=`` in their
            places.

    Raises:
        ValueError: the model has more than one layer.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        config: ModelConfig | TransformerBridgeConfig,
        task: AdditionTask,
    ) -> None:
        if not covers(config):
            raise ValueError(
                f"n_layers = {config.n_layers}: the short forward covers models of one layer, with "
                f"LayerNorm and ReLU neurons, only"
            )
        self.weights = weights
        self.config = config
        self.task = task
        self.rows = Rows.of(task, weights["embed.weight"].device)

    def with_weights(self, weights: Mapping[str, Tensor]) -> FastForward:
        """The same forward of another model of this shape, on this device."""
        other = copy(self)
        other.weights = weights
        return other

    def __call__(
        self, tokens: Int[Tensor, "batch n_ctx"]
    ) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits that predict the answer digits, by column (``[:, 0]`` is for A0)."""
        resid = self._resid_post(tokens)
        gain, shift = self.weights["ln_final.weight"], self.weights["ln_final.bias"]
        final = F.layer_norm(resid, resid.shape[-1:], gain, shift, EPS)
        return self.by_column(F.linear(final, self.weights["unembed.weight"]))

    def _resid_post(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "queries d_model"]:
        """The residual stream after the layer at all answer positions, in reading order."""
        table, scaled, basis = self.tables()
        coefficients = self.coefficients(tokens, table, scaled)
        resid_mid = coefficients @ basis
        if self.config.attn_only:
            return resid_mid
        scale = (resid_mid.var(-1, correction=0, keepdim=True) + EPS).rsqrt()
        images = self.images("blocks.0.ln2", "blocks.0.mlp.in", basis)
        hidden = (with_ones(coefficients * scale) @ images).relu_()
        return resid_mid + self._linear("blocks.0.mlp.out", hidden)[:, : self.config.d_model]

    def by_column(self, values: Float[Tensor, "queries k"]) -> Float[Tensor, "batch n_answer k"]:
        """Values at all answer positions in reading order, sorted by the column they predict."""
        return self.task.by_column(values.unflatten(0, (-1, self.task.n_answer)))

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """What depends on the weights alone.

        Returns:
            The scores of every pair of query row and key row, (heads, query rows, rows); each row's
            sources after LayerNorm and a 1, (rows, sources + 1); the vectors that make up
            resid_mid, (coefficients, d_model).
        """
        heads, d_head = self.config.n_heads, self.config.d_head
        source = torch.cat([self.weights["embed.weight"], self.weights["pos_embed.weight"][:-1]])
        sources = self.rows.sources
        before = sources @ centred(source)
        scaled = with_ones(sources * (before.square().mean(-1, keepdim=True) + EPS).rsqrt())

        def by_head(x: Tensor) -> Float[Tensor, "heads rows d_head"]:
            return x.unflatten(1, (heads, d_head)).transpose(0, 1)

        q, k, v = (self.images("blocks.0.ln1", f"blocks.0.attn.{name}", source) for name in "qkv")
        queries = by_head(scaled[self.rows.first_query :] @ q)
        table = queries @ by_head(scaled @ k).transpose(1, 2) / d_head**0.5
        written = by_head(v) @ self.weights["blocks.0.attn.o.weight"].T.view(heads, d_head, -1)
        bias = self.weights["blocks.0.attn.o.bias"][None]
        return table, scaled, torch.cat([written.flatten(0, 1), source, bias])

    def coefficients(
        self, tokens: Tensor, table: Tensor, scaled: Tensor
    ) -> Float[Tensor, "queries coefficients"]:
        """The coefficients that make each question's resid_mid of the basis of :meth:`tables`."""
        rows = self.rows
        row = rows.first + tokens[:, :-1]  # (batch, read)
        query = row[:, self.task.answer_positions.start :]  # (batch, answers)
        entry = (query - rows.first_query)[:, :, None] * len(scaled) + row[:, None]
        # F.embedding, not gathering, whose gradients add up in any order on a GPU; nor indexing,
        # whose gradients do so on a CPU with several threads.
        scores = F.embedding(entry, table.flatten(1).T).movedim(-1, 0)
        pattern = scores.masked_fill(rows.later, float("-inf")).softmax(-1)
        read = F.embedding(row, scaled)
        mixed = pattern.permute(1, 2, 0, 3).flatten(1, 2) @ read  # (batch, answers · heads, …)
        return with_ones(
            torch.cat([mixed.view(query.numel(), -1), rows.sources[query.flatten()]], 1)
        )

    def images(
        self, norm: str, linear: str, vectors: Float[Tensor, "n d_model"]
    ) -> Float[Tensor, "n_and_1 d_out"]:
        """``linear(norm(x))`` before the division by the standard deviation, for each vector x.

        The last row is what is added after it: it belongs to the 1 of :func:`with_ones`.
        """
        scaled = centred(vectors) * self.weights[f"{norm}.weight"]
        shift = self.weights[f"{norm}.bias"][None]
        images = self._linear(linear, torch.cat([scaled, shift]), bias=False)
        return torch.cat([images[:-1], images[-1:] + self.weights[f"{linear}.bias"]])

    def _linear(self, name: str, x: Tensor, bias: bool = True) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        missing = weight.shape[1] - x.shape[-1]
        if missing:  # else F.pad would copy
            x = F.pad(x, (0, missing))
        return F.linear(x, weight, self.weights[f"{name}.bias"] if bias else None)


def with_ones(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns_and_1"]:
    """The rows with a 1 at their ends."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def centred(x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
    """The rows less their means."""
    return x - x.mean(-1, keepdim=True)
