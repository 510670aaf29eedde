"""The exact short forward of one-layer models: the same answer logits and gradients, about a third of the arithmetic.

Three facts about a one-layer model on this task make most of its ordinary forward unnecessary.

1. Only the n + 1 answer positions have logits that are used, and nothing reads the other positions' outputs. So
   queries, W_O, the MLP and the unembedding are needed at those positions only.
2. Before attention, an activation depends on its token and position alone. There are at most (B + 2) · n_ctx such
   rows, and 3n · B + 2 that occur (digits stand at 3n places, ``+`` and ``=`` at one each). Project each row once.
3. So attention scores have only (query row, key row) as arguments: they form one small table per head, and a
   question's scores are looked up. Mixing values is then one matrix product over all rows.

The parameters are the bridge's own. For training, :func:`aligned_weights` moves the MLP's into zero-padded storage
first: matrix products are about a tenth faster when every side is a multiple of 16, and zeros change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.model import ModelConfig, weights
from addlib.task import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EPS = 1e-5
"""LayerNorm's epsilon in the native bridge."""


def covers(config: ModelConfig) -> bool:
    """Whether the short forward is exact for this model: one layer, with or without MLP."""
    return config.n_layers == 1


@dataclass(frozen=True)
class Rows:
    """The (token, position) rows that occur in questions, ordered by position; the last answer token is never read."""

    token: Int[Tensor, " rows"]
    position: Int[Tensor, " rows"]
    first: Int[Tensor, " read_positions"]  # row of token 0 at each position, or of the sign that always stands there
    first_query: int  # rows from here on are the rows of answer positions
    later: Bool[Tensor, "n_answer read_positions"]  # positions that an answer position must not read

    @classmethod
    def of(cls, task: AdditionTask, device: torch.device) -> Rows:
        token, position, first = [], [], []
        for p in range(task.n_ctx - 1):
            here = {task.n_digits: [task.plus], 2 * task.n_digits + 1: [task.equals]}.get(p, list(range(task.base)))
            first.append(len(token) - (here[0] if len(here) == 1 else 0))
            token += here
            position += [p] * len(here)
        first_query = position.index(task.answer_positions.start)
        later = [[p > answer for p in range(task.n_ctx - 1)] for answer in task.answer_positions]
        tensors = [torch.tensor(values, device=device) for values in (token, position, first)]
        return cls(*tensors, first_query, torch.tensor(later, device=device))


def aligned_weights(model: TransformerBridge) -> dict[str, Tensor]:
    """The model's parameters by name, those of the MLP as larger leaf tensors with zeros at their ends.

    The model's own MLP parameters become views into the larger ones, so both always hold the same values. Zero rows and
    columns receive zero gradients, and AdamW leaves them at zero. Gradients land in the returned tensors.
    """
    values = weights(model)
    for name, p in values.items():
        if ".mlp." in name:
            padded = torch.zeros([-(-side // 16) * 16 for side in p.shape], dtype=p.dtype, device=p.device)
            inner = padded[tuple(slice(side) for side in p.shape)]
            p.data = inner.copy_(p.detach())
            values[name] = padded.requires_grad_()
    return values


class FastForward:
    """Answer logits of one-layer bridges for one task; call it like ``answer_logits``.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.model.weights` or :func:`aligned_weights`; they
            receive the gradients.
        config: the bridge's configuration; :func:`covers` must hold.
        task: the task whose questions come in. Tokens must be digits, ``+`` and ``=`` in their places.

    Raises:
        ValueError: the model has more than one layer.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: ModelConfig, task: AdditionTask) -> None:
        if not covers(config):
            raise ValueError(f"n_layers = {config.n_layers}: the short forward covers one-layer models only")
        self.config, self.task = config, task
        self.weights = weights
        self.rows = Rows.of(task, self.weights["embed.weight"].device)

    def __call__(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits that predict the answer digits, by column (``[:, 0]`` is for A0)."""
        row = self.rows.first + tokens[:, :-1]  # (batch, read positions)
        # F.embedding, not indexing: the gradient of indexing adds up in any order when there are several threads.
        resid_pre = F.embedding(self.rows.token, self.weights["embed.weight"])
        resid_pre = resid_pre + F.embedding(self.rows.position, self.weights["pos_embed.weight"])
        resid = self._attend(row, resid_pre)
        if not self.config.attn_only:
            hidden = self._linear("blocks.0.mlp.in", self._layer_norm("blocks.0.ln2", resid)).relu_()
            resid = resid + self._linear("blocks.0.mlp.out", hidden)[:, : self.config.d_model]
        logits = F.linear(self._layer_norm("ln_final", resid), self.weights["unembed.weight"])
        logits = logits.view(len(tokens), self.task.n_answer, self.task.d_vocab)
        return logits.flip(1) if self.task.answer_order == "msd" else logits

    def _attend(self, row: Tensor, resid_pre: Tensor) -> Float[Tensor, "queries d_model"]:
        heads, n_rows, first_query = self.config.n_heads, len(resid_pre), self.rows.first_query
        normal = self._layer_norm("blocks.0.ln1", resid_pre)
        q = self._by_head(self._linear("blocks.0.attn.q", normal[first_query:]))
        k = self._by_head(self._linear("blocks.0.attn.k", normal))
        v = self._by_head(self._linear("blocks.0.attn.v", normal))  # (heads, rows, d_head)
        table = q @ k.transpose(1, 2) / self.config.d_head**0.5  # (heads, query rows, rows)

        query = row[:, self.task.answer_positions.start :] - first_query  # (batch, answers)
        entry = query[:, :, None] * n_rows + row[:, None, :]  # (batch, answers, read positions)
        scores = table.flatten(1).gather(1, entry.flatten().expand(heads, -1)).view(heads, *entry.shape)
        pattern = scores.masked_fill(self.rows.later, float("-inf")).softmax(-1)
        # A question's keys are distinct rows, so its pattern can be written over all rows and mixed by one product.
        over_rows = pattern.new_zeros(heads, *query.shape, n_rows).scatter(-1, row[:, None].expand_as(pattern), pattern)
        z = (over_rows.flatten(1, 2) @ v).transpose(0, 1).flatten(1)  # (queries, heads · d_head)

        which = F.one_hot(query.flatten(), n_rows - first_query).to(resid_pre.dtype)  # its gradient is a product too
        return which @ resid_pre[first_query:] + self._linear("blocks.0.attn.o", z)

    def _by_head(self, x: Tensor) -> Float[Tensor, "heads rows d_head"]:
        return x.unflatten(1, (self.config.n_heads, -1)).transpose(0, 1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.linear(F.pad(x, (0, weight.shape[1] - x.shape[1])), weight, self.weights[f"{name}.bias"])

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPS)
