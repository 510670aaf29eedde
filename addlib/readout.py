"""Answers of one-layer models to very many questions, in 40 % of the short forward's arithmetic.

Before the final LayerNorm the residual stream is linear in the MLP's activations, so the unembedding can be folded into
W_out: 2,040 × 12 numbers in place of 2,040 × 510. What cannot be folded is LayerNorm's divisor σ, one number per
answer digit. Its square is the mean square of the centred residual stream, and nearly all of that lies in few
directions: its principal components over a sample, folded into W_out like the unembedding. What lies outside them
hardly varies and enters by its mean.

So σ is estimated, to some tenths of a percent, and a logit with it. A lead of several nats cannot change hands by that.
Questions with a digit whose lead is smaller are done again, exactly; they also carry nearly all of the loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.fastpath import EPS, FastForward, with_ones

COMPONENTS = 116  # with 12 unembedding directions 128 columns; σ is then known to some tenths of a percent
SAFE_LEAD = 2.0  # nats


class FastReadout:
    """Answer logits whose final LayerNorm divides by an estimate; call it like :class:`addlib.fastpath.FastForward`.

    Args:
        forward: the short forward of a model with an MLP. Its weights must not change afterwards.
        sample: tokens of questions to find the principal components on.
    """

    @torch.no_grad()
    def __init__(self, forward: FastForward, sample: Int[Tensor, "batch n_ctx"]) -> None:
        w, d_model = forward.weights, forward.config.d_model
        self.forward, self.d_vocab, self.d_model = forward, forward.task.d_vocab, d_model
        resid = _centred(forward.resid_post(sample))
        kept = torch.linalg.svd(resid, full_matrices=False).Vh[:COMPONENTS].T
        self.outside = (resid - resid @ kept @ kept.T).square().sum(-1).mean()
        directions = torch.cat([w["ln_final.weight"][:, None] * w["unembed.weight"].T, kept], 1)
        self.shift = w["ln_final.bias"] @ w["unembed.weight"].T

        self.table, self.scaled, basis = forward.tables()
        self.images = forward.images("blocks.0.ln2", "blocks.0.mlp.in", basis)
        # |resid_mid|² is a quadratic form of the coefficients; its square root is as small as there are coefficients.
        self.norm_mid = torch.linalg.qr(_centred(basis).T, mode="r").R.T / d_model**0.5
        self.from_hidden = _centred(w["blocks.0.mlp.out.weight"][:d_model].T) @ directions
        basis = torch.cat([basis[:-1], basis[-1:] + w["blocks.0.mlp.out.bias"][:d_model]])
        self.from_mid = _centred(basis) @ directions
        error = (forward(sample) - self(sample)).abs().max().item()
        self.safe_lead = max(SAFE_LEAD, 4 * error)

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits that predict the answer digits, by column, up to the error of the estimated divisor."""
        coefficients = self.forward.coefficients(tokens, self.table, self.scaled)
        scale = ((coefficients @ self.norm_mid).square().sum(-1, keepdim=True) + EPS).rsqrt()
        hidden = (with_ones(coefficients * scale) @ self.images).relu_()
        out = torch.addmm(coefficients @ self.from_mid, hidden, self.from_hidden)
        inside = out[:, self.d_vocab :].square().sum(-1, keepdim=True)
        scale = ((inside + self.outside) / self.d_model + EPS).rsqrt()
        return self.forward.by_column(out[:, : self.d_vocab] * scale + self.shift)

    def unsafe(self, logits: Float[Tensor, "batch n_answer d_vocab"]) -> Bool[Tensor, " batch"]:
        """Questions with a digit whose lead is small enough to be looked at again."""
        first, second = logits.topk(2).values.unbind(-1)
        return (first - second < self.safe_lead).any(1)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
