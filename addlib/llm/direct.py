"""Direct attribution: what each component of a language model writes to the answer by itself.

The residual stream at the end of the model is a sum: the embedding, and what the attention and the
MLP of each layer wrote. The final norm divides it by one number and the unembedding is linear, so
the difference of two logits is a sum over components as well (Elhage et al. 2021), with the norm's
divisor taken as given. What a component does through later ones is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.patching.suffix_forward import ShortForward

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Written:
    """What is in the residual stream at the last position of prompts, by who wrote it."""

    # The embedding, then attention and MLP of each layer
    components: Float[Tensor, "component batch d_model"]
    z: Float[Tensor, "layer batch head d_head"]  # the heads' outputs
    scale: Float[Tensor, "batch d_model"]  # what the final norm multiplies the stream by

    @property
    def stream(self) -> Float[Tensor, "component batch d_model"]:
        """The residual stream after each component."""
        return torch.stack([*accumulate(self.components)])

    def along(self, directions: Float[Tensor, "batch d_model"]) -> Float[Tensor, "component batch"]:
        """What each component adds to a sum of logits, in nats.

        Args:
            directions: that sum of the unembedding's columns, prompt by prompt.
        """
        return (self.components * self.scale * directions).sum(-1)

    def lens_along(
        self, directions: Float[Tensor, "batch d_model"], eps: float
    ) -> Float[Tensor, "component batch"]:
        """That sum as the logit lens reads it after each component: the stream's own norm taken.

        Args:
            directions: as of :meth:`along`. eps: of the final norm.
        """
        size = (self.stream.square().mean(-1, keepdim=True) + eps).sqrt()
        gained = self.stream * self.scale * size[-1]  # the norm's gain, without its last divisor
        return (gained / size * directions).sum(-1)


@torch.no_grad()
def written_at_end(model: TransformerBridge, tokens: Int[Tensor, "batch position"]) -> Written:
    """What each component writes at the last position of prompts; one forward.

    Args:
        model: a bridge whose final norm divides by the root mean square, as Qwen2's and Llama's.

    Raises:
        ValueError: another final norm, which makes no sum of its parts.
    """
    cfg: Any = model.cfg
    norm: Any = model.ln_final.original_component
    if getattr(norm, "bias", None) is not None:
        raise ValueError("the final norm centres and shifts: must divide by the root mean square")
    writers = {
        kind: [f"blocks.{layer}.{kind}" for layer in range(cfg.n_layers)]
        for kind in ("hook_attn_out", "hook_mlp_out", "attn.hook_z")
    }
    first = "blocks.0.hook_resid_pre"
    wanted = [first, *(name for names in writers.values() for name in names)]
    device = next(model.parameters()).device
    _, cache = model.run_with_cache(tokens.to(device), names_filter=wanted)

    def last(kind: str) -> Float[Tensor, "layer batch ..."]:
        return torch.stack([cache[name][:, -1] for name in writers[kind]])

    outputs = torch.stack([last("hook_attn_out"), last("hook_mlp_out")], 1).flatten(0, 1)
    components = torch.cat([cache[first][None, :, -1], outputs])
    size = (components.sum(0).square().mean(-1, keepdim=True) + cfg.eps).sqrt()
    return Written(components, last("attn.hook_z"), norm.weight.detach() / size)


@torch.no_grad()
def heads_along(
    model: TransformerBridge, written: Written, directions: Float[Tensor, "batch d_model"]
) -> Float[Tensor, "layer head batch"]:
    """What each head adds to a sum of logits, in nats: its part of :meth:`Written.along`.

    Args:
        directions: as of :meth:`Written.along`.
    """
    W_O = torch.stack([block.attn.W_O.detach() for block in model.blocks])
    scaled = written.scale * directions
    return torch.einsum("lbhe,lhed,bd->lhb", written.z, W_O, scaled)


@torch.no_grad()
def copying(
    model: TransformerBridge, layer: int, head: int, tokens: Int[Tensor, " token"]
) -> float:
    """The share of tokens whose own logit a head raises most among theirs, if it looks at them.

    A token is read as layer 0 leaves it where it stands by itself: its embedding and what the
    first MLP adds.
    """
    forward = ShortForward(model)
    tokens = tokens.to(next(model.parameters()).device)
    first: Any = model.blocks[0]
    block: Any = model.blocks[layer]
    embedded = model(tokens[:, None], stop_at_layer=0)[:, 0]
    held = embedded + first.mlp(first.ln2(embedded))
    position = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
    values = forward.project("v", layer, block.ln1(held), position, None)  # (token, group, d_head)
    heads = int(model.cfg.n_heads)
    z = values.new_zeros(len(tokens), heads, values.shape[-1])
    z[:, head] = values[:, head * values.shape[1] // heads]
    empty = torch.zeros_like(z)
    written = forward.write(layer, z) - forward.write(layer, empty)
    choices = forward.logits(written, tokens.expand(len(tokens), -1))
    own = torch.arange(len(tokens), device=tokens.device)
    return (choices.argmax(-1) == own).double().mean().item()


@torch.no_grad()
def lens_table(
    model: TransformerBridge,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Int[Tensor, "1 position"],
    due: int,
) -> pd.DataFrame:
    """What the logit lens reads at the end of one prompt, at every depth.

    The columns are ``depth`` in layers (halves are after a layer's attention), ``likeliest token``,
    ``its probability`` and ``rank of the due digit``.

    Args:
        due: the token that should follow.
    """
    stream = written_at_end(model, prompt).stream[:, 0]  # (depth, d_model)
    probability = model.unembed(model.ln_final(stream)).softmax(-1).cpu()
    likeliest = probability.max(-1)
    rank = 1 + (probability > probability[:, due, None]).sum(-1)
    return pd.DataFrame(
        {
            "depth": [i / 2 for i in range(len(rank))],
            "likeliest token": [repr(tokenizer.decode(i)) for i in likeliest.indices],
            "its probability": likeliest.values.tolist(),
            "rank of the due digit": rank.tolist(),
        }
    )
