"""The exact short forward of one-layer models: the same answer logits and gradients, a fifth of the
arithmetic.

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
zero-padded storage
first: matrix products are about a tenth faster when every side is a multiple of 16, and zeros
    change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    from transformer_lens.model_bridge import TransformerBridge


EPS = 1e-5
"""LayerNorm's epsilon in the native bridge."""


def covers(config: ModelConfig) -> bool:
    """Whether the short forward is exact for this model: one layer, with or without MLP."""
    return config.n_layers == 1


@dataclass(frozen=True)
class Rows:
    """The (token, position) rows that occur in questions, ordered by position; the last answer
    token is never read.
    """

    sources: Float[
        Tensor, "rows sources"
    ]  # 1 at the row's token and at its position; tokens first, then positions
    first: Int[
        Tensor, " read_positions"
    ]  # row of token 0 at each position, or of the sign that always stands there
    first_query: int  # rows from here on are the rows of answer positions
    later: Bool[
        Tensor, "n_answer read_positions"
    ]  # positions that an answer position must not read

    @classmethod
    def of(cls, task: AdditionTask, device: torch.device) -> Rows:
        read = task.n_ctx - 1
        token, position, first = [], [], []
        for p in range(read):
            here = {task.n_digits: [task.plus], 2 * task.n_digits + 1: [task.equals]}.get(
                p, list(range(task.base))
            )
            first.append(len(token) - (here[0] if len(here) == 1 else 0))
            token += here
            position += [p] * len(here)
        sources = torch.zeros(len(token), task.d_vocab + read)
        sources[torch.arange(len(token)), token] = 1
        sources[torch.arange(len(token)), task.d_vocab + torch.tensor(position)] = 1
        first_query = position.index(task.answer_positions.start)
        later = torch.tensor(
            [[p > answer for p in range(read)] for answer in task.answer_positions]
        )
        return cls(
            sources.to(device), torch.tensor(first, device=device), first_query, later.to(device)
        )


def aligned_weights(model: TransformerBridge) -> dict[str, Tensor]:
    """The model's parameters by name, those of the MLP as larger leaf tensors with zeros at their
    ends.

    The model's own MLP parameters become views into the larger ones, so both always hold the same
    values. Zero rows and columns receive zero gradients, and AdamW leaves them at zero. Gradients
    land in the returned tensors.
    """
    values = weights(model)
    for name, p in values.items():
        if ".mlp." in name:
            padded = torch.zeros(
                [-(-side // 16) * 16 for side in p.shape], dtype=p.dtype, device=p.device
            )
            inner = padded[tuple(slice(side) for side in p.shape)]
            p.data = inner.copy_(p.detach())
            values[name] = padded.requires_grad_()
    return values


class FastForward:
    """Answer logits of one-layer bridges for one task; call it like ``answer_logits``.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.models.bridge.weights` or
            :func:`aligned_weights`; they receive the gradients.
        config: the bridge's configuration; :func:`covers` must hold.
        task: the task whose questions come in. Tokens must be digits, ``+`` and ``=`` in their
            places.

    Raises:
        ValueError: the model has more than one layer.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: ModelConfig, task: AdditionTask
    ) -> None:
        if not covers(config):
            raise ValueError(
                f"n_layers = {config.n_layers}: the short forward covers one-layer models only"
            )
        self.config, self.task = config, task
        self.weights = weights
        self.rows = Rows.of(task, self.weights["embed.weight"].device)

    def __call__(
        self, tokens: Int[Tensor, "batch n_ctx"]
    ) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits that predict the answer digits, by column (``[:, 0]`` is for A0)."""
        resid = self.resid_post(tokens)
        gain, shift = self.weights["ln_final.weight"], self.weights["ln_final.bias"]
        final = F.layer_norm(resid, resid.shape[-1:], gain, shift, EPS)
        return self.by_column(F.linear(final, self.weights["unembed.weight"]))

    def resid_post(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "queries d_model"]:
        """The residual stream after the layer at all answer positions, in reading order."""
        table, scaled, basis = self.tables()
        coefficients = self.coefficients(tokens, table, scaled)
        resid = coefficients @ basis  # resid_mid
        if not self.config.attn_only:
            scale = (resid.var(-1, correction=0, keepdim=True) + EPS).rsqrt()
            hidden = (
                with_ones(coefficients * scale)
                @ self.images("blocks.0.ln2", "blocks.0.mlp.in", basis)
            ).relu_()
            resid = resid + self._linear("blocks.0.mlp.out", hidden)[:, : self.config.d_model]
        return resid

    def by_column(self, values: Float[Tensor, "queries k"]) -> Float[Tensor, "batch n_answer k"]:
        """Values of all answer positions in reading order, sorted by the answer column they
        predict.
        """
        return self.task.by_column(values.unflatten(0, (-1, self.task.n_answer)))

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """What depends on the weights alone.

        Returns:
            The scores of every pair of query row and key row, (heads, query rows, rows); each row's
            sources after LayerNorm and a 1, (rows, sources + 1); the vectors that make up
            resid_mid, (coefficients, d_model).
        """
        rows, heads, d_head = self.rows, self.config.n_heads, self.config.d_head
        source = torch.cat([self.weights["embed.weight"], self.weights["pos_embed.weight"][:-1]])
        before = rows.sources @ (source - source.mean(-1, keepdim=True))
        scaled = with_ones(rows.sources * (before.square().mean(-1, keepdim=True) + EPS).rsqrt())
        q, k, v = (self.images("blocks.0.ln1", f"blocks.0.attn.{name}", source) for name in "qkv")

        def by_head(x: Tensor) -> Float[Tensor, "heads rows d_head"]:
            return x.unflatten(1, (heads, d_head)).transpose(0, 1)

        table = (
            by_head(scaled[rows.first_query :] @ q)
            @ by_head(scaled @ k).transpose(1, 2)
            / d_head**0.5
        )
        written = by_head(v) @ self.weights["blocks.0.attn.o.weight"].T.view(heads, d_head, -1)
        basis = torch.cat(
            [written.flatten(0, 1), source, self.weights["blocks.0.attn.o.bias"][None]]
        )
        return table, scaled, basis

    def coefficients(
        self, tokens: Tensor, table: Tensor, scaled: Tensor
    ) -> Float[Tensor, "queries coefficients"]:
        """The coefficients that make each question's resid_mid out of the basis of :meth:`tables`."""
        rows, heads = self.rows, self.config.n_heads
        row = rows.first + tokens[:, :-1]  # (batch, read)
        query = row[:, self.task.answer_positions.start :]  # (batch, answers)
        entry = (query - rows.first_query)[:, :, None] * len(scaled) + row[
            :, None, :
        ]  # (batch, answers, read)
        scores = (
            table.flatten(1).gather(1, entry.flatten().expand(heads, -1)).view(heads, *entry.shape)
        )
        pattern = scores.masked_fill(rows.later, float("-inf")).softmax(-1)
        # F.embedding, not indexing: the gradient of indexing adds up in any order when there are
        # several threads.
        mixed = pattern.permute(1, 2, 0, 3).flatten(1, 2) @ F.embedding(
            row, scaled
        )  # (batch, answers · heads, ...)
        return with_ones(
            torch.cat([mixed.view(query.numel(), -1), rows.sources[query.flatten()]], 1)
        )

    def images(
        self, norm: str, linear: str, x: Float[Tensor, "rows d_model"]
    ) -> Float[Tensor, "rows_and_1 out"]:
        """``linear(norm(x))`` before the division by the standard deviation; the last row is what
        is added after it.
        """
        centred = (x - x.mean(-1, keepdim=True)) * self.weights[f"{norm}.weight"]
        images = self._linear(
            linear, torch.cat([centred, self.weights[f"{norm}.bias"][None]]), bias=False
        )
        return torch.cat([images[:-1], images[-1:] + self.weights[f"{linear}.bias"]])

    def _linear(self, name: str, x: Tensor, bias: bool = True) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        padded = F.pad(x, (0, weight.shape[1] - x.shape[-1]))
        return F.linear(padded, weight, self.weights[f"{name}.bias"] if bias else None)


def with_ones(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns_and_1"]:
    """The rows with a 1 at their ends."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)
