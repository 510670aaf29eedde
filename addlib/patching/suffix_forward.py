"""The short forward of a decoder: only positions that changed, only in the layers after that.

Attention is causal. If a run differs from an earlier one from some position on, then everything
before that position is as it was, in every layer. So the new run needs the earlier one's keys and
values there and nothing else, and where only the last position's logits are read, the last block's
queries, its MLP and the unembedding are needed there alone.

The ends of many such prompts, each beginning at its own position, are packed into one list of rows:
norms, projections and MLPs act on rows, and only attention looks at which prompt a row belongs to.

The computation is written out here in the bridge's own modules (norms, q, k, v, o, MLP,
unembedding), for decoders of the common form: norm, attention, add; norm, MLP, add; rotary
positions or learned ones. :meth:`ShortForward.check` compares it with the model's own logits, so
that no other architecture is computed wrongly in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.device import out_of_memory

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


CHECKED = 2
"""So many prompts are compared with the model's own logits."""


TOLERANCE = 1e-4
"""Largest distance of logits, as a share of the largest one; 500 times this in half precision."""


KEPT = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "q", "k", "v", "z", "pattern")
"""The activations of each layer that a :class:`ForwardCache` holds."""


@dataclass(frozen=True)
class ForwardCache:
    """Activations of one forward of a batch of prompts: by name, one tensor for each layer.

    ``resid_pre`` (one more than there are layers: the last is what the final norm reads),
    ``resid_mid``, ``attn_out`` and ``mlp_out`` are (batch, position, d_model); ``q`` and ``z``
    (batch, position, head, d_head); ``pattern`` (batch, position, head, source position). After a
    past they begin where it ends. ``k`` and ``v`` (batch, position, key-value head, d_head) hold
    all positions. Queries and keys are rotated already.
    """

    values: dict[str, list[Tensor]]

    def __getitem__(self, name: str) -> list[Tensor]:
        return self.values[name]

    @classmethod
    def join(cls, parts: Sequence[ForwardCache]) -> ForwardCache:
        """The forwards of several batches of prompts as one; they are used up.

        Each part's tensors are let go as soon as they are joined: both at once would be twice the
        memory.
        """
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, list[Tensor]] = {}
        for name in list(parts[0].values):
            by_layer = zip(*(part.values.pop(name) for part in parts), strict=True)
            joined[name] = [torch.cat(tensors) for tensors in by_layer]
        return cls(joined)

    def of_layer(self, layer: int) -> dict[str, Tensor]:
        """The activations of one layer by name."""
        return {name: tensors[layer] for name, tensors in self.values.items()}

    def keys_and_values(self, prompts: Int[Tensor, " prompt"] | slice) -> ForwardCache:
        """Those of these prompts, in their order: all that a forward needs that goes on from here."""
        return ForwardCache({name: [tensor[prompts] for tensor in self[name]] for name in "kv"})


@dataclass(frozen=True)
class PackedSuffixes:
    """The ends of several prompts in one list of rows, each from its own first position on."""

    prompt: Int[Tensor, " suffix"]  # the prompt of the base run that each is the end of
    suffix: Int[Tensor, " row"]
    position: Int[Tensor, " row"]
    last: Int[Tensor, " suffix"]  # the row of each suffix's last position

    @classmethod
    def of(
        cls, prompt: Int[Tensor, " suffix"], start: Int[Tensor, " suffix"], n_positions: int
    ) -> PackedSuffixes:
        """Rows of suffixes that begin at position ``start``; prompts have ``n_positions``."""
        length = n_positions - start
        end = length.cumsum(0)
        suffix = torch.arange(len(start), device=start.device).repeat_interleave(length)
        position = torch.arange(len(suffix), device=start.device) - (end - length - start)[suffix]
        return cls(prompt, suffix, position, end - 1)

    def only_last(self) -> PackedSuffixes:
        """The last row of each suffix alone."""
        row = torch.arange(len(self.prompt), device=self.suffix.device)
        return PackedSuffixes(self.prompt, self.suffix[self.last], self.position[self.last], row)


class ShortForward:
    """A bridge's blocks as separate steps, on packed rows; call :meth:`check` before trusting it."""

    def __init__(self, model: TransformerBridge) -> None:
        self.model = model
        cfg: Any = model.cfg
        self.n_layers = int(cfg.n_layers)
        self.d_head = int(cfg.d_head)

    @property
    def scale(self) -> float:
        """What attention scores are multiplied by."""
        first: Any = self.model.blocks[0]
        return getattr(first.attn.original_component, "scaling", None) or self.d_head**-0.5

    @torch.no_grad()
    def check(self, tokens: Int[Tensor, "batch position"]) -> None:
        """Compare the logits at the last position of a few prompts with the model's own.

        Raises:
            NotImplementedError: they differ, or the blocks lack a module of the common form; says
                what and where.
        """
        name = getattr(self.model.cfg, "architecture", None) or type(self.model).__name__
        tokens = tokens[:CHECKED]
        try:
            own = self.logits(self.run(tokens)["resid_pre"][-1][:, -1])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            if out_of_memory(error):
                raise
            raise NotImplementedError(
                f"{name}: not of the form that the short forward knows ({error})"
            ) from error
        expected = self.model(tokens)[:, -1]
        off = ((own - expected).abs().max() / expected.abs().max()).item()
        half_precision = expected.dtype.itemsize < 4
        if not off <= TOLERANCE * (500 if half_precision else 1):
            raise NotImplementedError(
                f"{name}: the short forward's logits are off by {off:.1e} of the largest one"
            )

    @torch.no_grad()
    def run(
        self,
        tokens: Int[Tensor, "batch position"],
        past: ForwardCache | None = None,
        added: Float[Tensor, "batch position d_model"] | None = None,
    ) -> ForwardCache:
        """A forward, with everything that patching needs from it.

        Args:
            tokens: whole prompts.
            past: keys and values of the first tokens of the same prompts; only the others are
                computed.
            added: to the stream before the first layer.
        """
        first = past["k"][0].shape[1] if past else 0
        # Embeddings, and positions where they are learned.
        resid = self.model(tokens, stop_at_layer=0)[:, first:]
        if added is not None:
            resid = resid + added[:, first:]
        position = torch.arange(first, tokens.shape[1], device=resid.device)
        rotation = self.rotation(tokens.shape[1], resid)
        values: dict[str, list[Tensor]] = {name: [] for name in KEPT}
        for layer in range(self.n_layers):
            block: Any = self.model.blocks[layer]
            normed = block.ln1(resid)
            q = self.project("q", layer, normed, position, rotation)
            k = self.project("k", layer, normed, position, rotation)
            v = self.project("v", layer, normed, position, rotation)
            if past:
                k = torch.cat([past["k"][layer], k], 1)
                v = torch.cat([past["v"][layer], v], 1)
            z, pattern = attend(q, k, v, self.scale)
            attn_out = self.write(layer, z)
            mid = resid + attn_out
            mlp_out = block.mlp(block.ln2(mid))
            kept = (resid, mid, attn_out, mlp_out, q, k, v, z, pattern)
            for name, value in zip(KEPT, kept, strict=True):
                values[name].append(value)
            resid = mid + mlp_out
        values["resid_pre"].append(resid)
        return ForwardCache(values)

    def finish(
        self,
        resid: Float[Tensor, "row d_model"],
        rows: PackedSuffixes,
        base: ForwardCache,
        layer: int,
    ) -> Float[Tensor, "suffix d_model"]:
        """The last residual stream at each suffix's end, from that before ``layer`` at its rows.

        Keys and values before a suffix are those of the base run.
        """
        n_positions = base["k"][0].shape[1]
        rotation = self.rotation(n_positions, resid)
        for now in range(layer, self.n_layers):
            block: Any = self.model.blocks[now]
            normed = block.ln1(resid)
            k = base["k"][now][rows.prompt]  # a copy
            v = base["v"][now][rows.prompt]
            k[rows.suffix, rows.position] = self.project("k", now, normed, rows.position, rotation)
            v[rows.suffix, rows.position] = self.project("v", now, normed, rows.position, rotation)
            if now == self.n_layers - 1:
                normed = normed[rows.last]
                resid = resid[rows.last]
                rows = rows.only_last()
            q = self.project("q", now, normed, rows.position, rotation)
            z = self._attend_rows(q, k, v, rows)
            resid = self.feed_forward(now, resid + self.write(now, z))
        return resid[rows.last]

    def _attend_rows(
        self, q: Float[Tensor, "row head d_head"], k: Tensor, v: Tensor, rows: PackedSuffixes
    ) -> Float[Tensor, "row head d_head"]:
        """Attention of packed rows: queries are padded to the longest suffix."""
        offset = int(rows.position.min())
        length = k.shape[1] - offset
        at = (rows.suffix, rows.position - offset)
        padded = q.new_zeros(len(k), length, *q.shape[1:])
        padded[at] = q
        return attend(padded, k, v, self.scale)[0][at]

    def project(
        self,
        name: str,
        layer: int,
        normed: Tensor,
        position: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "... head d_head"]:
        """Queries, keys or values (``"q"``, ``"k"``, ``"v"``) by head, the first two rotated."""
        block: Any = self.model.blocks[layer]
        value = getattr(block.attn, name)(normed).unflatten(-1, (-1, self.d_head))
        if name == "v" or rotation is None:
            return value
        cos, sin = rotation
        low, high = value.chunk(2, -1)
        turned = torch.cat([-high, low], -1)
        return value * cos[position][:, None] + turned * sin[position][:, None]

    def rotation(self, n_positions: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of rotary positions, (position, d_head); None for learned ones."""
        rotary = getattr(self.model, "rotary_emb", None)
        if rotary is None:
            return None
        position = torch.arange(n_positions, device=like.device)
        cos, sin = rotary.original_component(like, position[None])
        return cos[0], sin[0]

    def feed_forward(
        self, layer: int, mid: Float[Tensor, "row d_model"]
    ) -> Float[Tensor, "row d_model"]:
        """The residual stream after a layer from that between its attention and its MLP."""
        block: Any = self.model.blocks[layer]
        return mid + block.mlp(block.ln2(mid))

    def write(
        self, layer: int, z: Float[Tensor, "row head d_head"]
    ) -> Float[Tensor, "row d_model"]:
        """What a layer's attention adds to the residual stream."""
        block: Any = self.model.blocks[layer]
        return block.attn.o(z.flatten(-2))

    def logits(
        self, resid: Float[Tensor, "*run d_model"], tokens: Int[Tensor, "*run choice"] | None = None
    ) -> Float[Tensor, "*run choice"]:
        """Logits of all tokens, or of a few for each row: these need only their columns of W_U."""
        normed = self.model.ln_final(resid)
        if tokens is None:
            return self.model.unembed(normed)
        columns = self.model.unembed.W_U.T[tokens]  # (..., choice, d_model)
        return (columns @ normed[..., None])[..., 0] + self.model.unembed.b_U[tokens]


def attend(
    q: Float[Tensor, "batch query head d_head"],
    k: Float[Tensor, "batch key kv_head d_head"],
    v: Float[Tensor, "batch key kv_head d_head"],
    scale: float,
) -> tuple[Float[Tensor, "batch query head d_head"], Float[Tensor, "batch query head key"]]:
    """Causal attention of the last queries to all keys: head outputs z, and the pattern.

    Head h reads key-value head h // (heads per key-value head).
    """
    batch, length, heads, _ = q.shape
    keys, groups = k.shape[1:3]
    grouped_shape = (batch, groups, heads // groups, length, -1)
    # The heads of a group share keys: they are further queries of one product.
    grouped = q.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    scores = (grouped @ k.permute(0, 2, 3, 1) * scale).view(grouped_shape)
    position = torch.arange(keys, device=q.device)
    later = position > position[keys - length :, None]
    scores = scores.masked_fill(later, torch.finfo(q.dtype).min)
    pattern = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    z = (pattern.flatten(2, 3) @ v.transpose(1, 2)).view(grouped_shape)
    return z.permute(0, 3, 1, 2, 4).flatten(2, 3), pattern.permute(0, 3, 1, 2, 4).flatten(2, 3)
