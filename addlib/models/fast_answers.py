"""Answers of one-layer models to very many questions, in 30 % of the short forward's arithmetic.

Before the final LayerNorm the residual stream is linear in the MLP's activations, so the
unembedding can be folded into W_out: 2,040 × 12 numbers in place of 2,040 × 510. What cannot be
folded is LayerNorm's divisor σ, one number per answer digit. Its square is the mean square of the
centred residual stream, and most of that lies in few directions: its principal components over a
sample, folded into W_out like the unembedding. What lies outside them is estimated from what lies
inside, by a least-squares fit of σ² on the sample.

So σ is estimated, to about a percent. The most likely digit hardly depends on it: σ divides all of
a logit but its constant part, the image of LayerNorm's bias. An error of 1 % can only overturn a
lead below 1 % of the differences in that part. Digits with a lead below five nats, far more than
that, are read out exactly nevertheless: the MLP's activations are exact and at hand, and these
digits carry nearly all of the loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.models.fast_addition import EPS, FastForward, centred, with_ones

COMPONENTS = 52
"""Principal components: with 12 unembedding directions 64 columns, σ to about a percent."""

SAFE_LEAD = 5.0
"""Digits with a smaller lead, in nats, are read out exactly."""


class FastReadout:
    """Answer logits, exact where they are close; call it like :class:`FastForward`.

    Args:
        forward: the short forward of a model with an MLP. Its weights must not change afterwards.
        sample: tokens of some hundred questions or more, of the kind that will be asked.
    """

    @torch.no_grad()
    def __init__(self, forward: FastForward, sample: Int[Tensor, "batch n_ctx"]) -> None:
        w = forward.weights
        d_model = forward.config.d_model
        self.forward = forward
        self.d_vocab = forward.task.d_vocab
        self.d_model = d_model
        self.unembed = w["ln_final.weight"][:, None] * w["unembed.weight"].T
        self.shift = w["ln_final.bias"] @ w["unembed.weight"].T
        self.table, self.scaled, basis = forward.tables()
        self.images = forward.images("blocks.0.ln2", "blocks.0.mlp.in", basis)
        # |resid_mid|² is a quadratic form of the coefficients; its square root is as small as there
        # are coefficients.
        self.norm_mid = torch.linalg.qr(centred(basis).T, mode="r").R.T / d_model**0.5
        bias = w["blocks.0.mlp.out.bias"][:d_model]
        self.mid = centred(torch.cat([basis[:-1], basis[-1:] + bias]))
        self.out = centred(w["blocks.0.mlp.out.weight"][:d_model].T)

        coefficients, hidden = self._hidden(sample)
        resid = torch.addmm(coefficients @ self.mid, hidden, self.out)
        # On the CPU, as the fit below: GPUs are slow at it.
        components = torch.linalg.svd(resid.cpu(), full_matrices=False).Vh[:COMPONENTS].T.to(resid)
        directions = torch.cat([self.unembed, components], 1)
        self.folded_mid = self.mid @ directions
        self.folded_out = self.out @ directions
        projected = resid @ directions
        square = resid.square().sum(-1)
        self._fit(projected, square)
        error = ((self._square(projected) / square).sqrt() - 1).abs().max().item()
        spread = (self.shift.max() - self.shift.min()).item()
        self.safe_lead = max(SAFE_LEAD, 4 * error * spread)

    @torch.no_grad()
    def __call__(
        self, tokens: Int[Tensor, "batch n_ctx"]
    ) -> Float[Tensor, "batch n_answer d_vocab"]:
        """Logits of the answer digits by column: exact where the lead is small, else estimated."""
        coefficients, hidden = self._hidden(tokens)
        projected = torch.addmm(coefficients @ self.folded_mid, hidden, self.folded_out)
        logits = self._logits(projected[:, : self.d_vocab], self._square(projected)[:, None])
        close = self.unsafe(logits)
        resid = torch.addmm(coefficients[close] @ self.mid, hidden[close], self.out)
        logits[close] = self._logits(resid @ self.unembed, resid.square().sum(-1, keepdim=True))
        return self.forward.by_column(logits)

    def unsafe(self, logits: Float[Tensor, "*digits d_vocab"]) -> Bool[Tensor, "*digits"]:
        """Digits whose lead is small enough for a second look."""
        first, second = logits.topk(2).values.unbind(-1)
        return first - second < self.safe_lead

    def _hidden(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of resid_mid and MLP activations at all answer positions, in order."""
        coefficients = self.forward.coefficients(tokens, self.table, self.scaled)
        scale = ((coefficients @ self.norm_mid).square().sum(-1, keepdim=True) + EPS).rsqrt()
        return coefficients, (with_ones(coefficients * scale) @ self.images).relu_()

    def _logits(self, unscaled: Tensor, square: Tensor) -> Float[Tensor, "queries d_vocab"]:
        return unscaled * (square / self.d_model + EPS).rsqrt() + self.shift

    def _fit(
        self, projected: Float[Tensor, "queries directions"], square: Float[Tensor, " queries"]
    ) -> None:
        """Per answer position, |resid|² as a sum of quadratics, one for each projection."""
        n_answer = self.forward.task.n_answer
        size = projected.shape[1]
        fits = []
        for position in range(n_answer):
            x = projected[position::n_answer].double().cpu()
            features = torch.cat([x.square(), x, torch.ones_like(x[:, :1])], 1)
            target = square[position::n_answer, None].double().cpu()
            fits.append(torch.linalg.lstsq(features, target, driver="gelsd").solution[:, 0])
        fitted = torch.stack(fits).to(projected).split([size, size, 1], 1)
        self.second, self.first, self.constant = fitted

    def _square(self, projected: Float[Tensor, "queries directions"]) -> Float[Tensor, " queries"]:
        """Estimate of |resid|²; it is never below the part that lies in the components."""
        x = projected.unflatten(0, (-1, self.forward.task.n_answer))
        fitted = ((x * self.second + self.first) * x).sum(-1) + self.constant[:, 0]
        return torch.maximum(fitted.flatten(), projected[:, self.d_vocab :].square().sum(-1))
