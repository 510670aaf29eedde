"""The exact short forward of one-layer models: the same answer logits and gradients, about a third of the arithmetic.

Three facts about a one-layer model on this task make most of its ordinary forward unnecessary.

1. Only the n + 1 answer positions have logits that are used, and nothing reads the other positions' outputs. So
   queries, W_O, the MLP and the unembedding are needed at those positions only.
2. Before attention, an activation depends on its token and position alone. There are at most (B + 2) · n_ctx such
   rows, and 3n · B + 2 that occur (digits stand at 3n places, ``+`` and ``=`` at one each). Project each row once.
3. So attention scores have only (query row, key row) as arguments: they form one small table per head, and a
   question's pattern is a masked softmax over table entries. Mixing values is then a plain matrix product.

The parameters are the bridge's own, so gradients land where TransformerLens's would.
"""

from __future__ import annotations

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

    @classmethod
    def of(cls, task: AdditionTask, device: torch.device) -> Rows:
        token, position, first = [], [], []
        for p in range(task.n_ctx - 1):
            here = {task.n_digits: [task.plus], 2 * task.n_digits + 1: [task.equals]}.get(p, list(range(task.base)))
            first.append(len(token) - (here[0] if len(here) == 1 else 0))
            token += here
            position += [p] * len(here)
        first_query = position.index(task.answer_positions.start)
        return cls(*(torch.tensor(v, device=device) for v in (token, position, first)), first_query)


class FastForward:
    """Answer logits of one-layer bridges for one task; call it like ``answer_logits``.

    Args:
        model: the bridge whose parameters are used (and receive gradients).
        config: the bridge's configuration; :func:`covers` must hold.
        task: the task whose questions come in. Tokens must be digits, ``+`` and ``=`` in their places.

    Raises:
        ValueError: the model has more than one layer.
    """

    def __init__(self, model: TransformerBridge, config: ModelConfig, task: AdditionTask) -> None:
        if not covers(config):
            raise ValueError(f"n_layers = {config.n_layers}: the short forward covers one-layer models only")
        self.config, self.task = config, task
        self.weights = weights(model)
        self.rows = Rows.of(task, self.weights["embed.weight"].device)

    def __call__(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits that predict the answer digits, by column (``[:, 0]`` is for A0)."""
        row = self.rows.first + tokens[:, :-1]  # (batch, read positions)
        resid_pre = self.weights["embed.weight"][self.rows.token] + self.weights["pos_embed.weight"][self.rows.position]
        resid = self._attend(row, resid_pre)
        if not self.config.attn_only:
            hidden = self._linear("blocks.0.mlp.in", self._layer_norm("blocks.0.ln2", resid)).relu_()
            resid = resid + self._linear("blocks.0.mlp.out", hidden)
        logits = F.linear(self._layer_norm("ln_final", resid), self.weights["unembed.weight"])
        logits = logits.view(len(tokens), self.task.n_answer, self.task.d_vocab)
        return logits.flip(1) if self.task.answer_order == "msd" else logits

    def _attend(self, row: Tensor, resid_pre: Tensor) -> Float[Tensor, "queries d_model"]:
        heads, first_query = self.config.n_heads, self.rows.first_query
        n_rows = len(resid_pre)
        normal = self._layer_norm("blocks.0.ln1", resid_pre)
        q = self._linear("blocks.0.attn.q", normal[first_query:]).unflatten(1, (heads, -1)).transpose(0, 1)
        k = self._linear("blocks.0.attn.k", normal).unflatten(1, (heads, -1)).transpose(0, 1)
        v = self._linear("blocks.0.attn.v", normal).unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, rows, d_head)
        table = q @ k.transpose(1, 2) / self.config.d_head**0.5  # (heads, query rows, rows)

        visible = self._visible(row)  # (queries, rows)
        which = self._query_one_hot(row, first_query, n_rows)  # (queries, query rows)
        scores = which @ table.transpose(0, 1).flatten(
            1
        )  # picks each query's row of the table; gradients are a GEMM too
        scores = scores.unflatten(1, (heads, n_rows)).masked_fill(~visible[:, None], float("-inf"))
        pattern = scores.softmax(-1)  # (queries, heads, rows)
        z = torch.matmul(pattern.transpose(0, 1), v)  # (heads, queries, d_head)
        attn_out = self._linear("blocks.0.attn.o", z.transpose(0, 1).flatten(1))
        return which @ resid_pre[first_query:] + attn_out

    def _visible(self, row: Tensor) -> Bool[Tensor, "queries rows"]:
        """Which rows each query may read: those of its own question, up to its own position."""
        n_rows, answers = len(self.rows.token), self.task.n_answer
        present = torch.zeros(len(row), n_rows, dtype=torch.bool, device=row.device).scatter_(1, row, True)
        reach = torch.tensor(list(self.task.answer_positions), device=row.device)
        causal = self.rows.position <= reach[:, None]  # (answers, rows)
        return (present[:, None] & causal).view(len(row) * answers, n_rows)

    def _query_one_hot(self, row: Tensor, first_query: int, n_rows: int) -> Float[Tensor, "queries query_rows"]:
        query = row[:, self.task.answer_positions.start :].flatten() - first_query
        return F.one_hot(query, n_rows - first_query).to(self.weights["embed.weight"].dtype)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPS)
