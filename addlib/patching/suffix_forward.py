"""The short forward of a decoder: only the positions that changed, in only the layers after the
change.

Attention is causal. If a run differs from an earlier one from some position on, then everything
before that position is as it was, in every layer. So the new run needs the earlier one's keys and
values there and nothing else, and where only the last position's logits are read, the last block's
queries, its MLP and the unembedding are needed there alone.

Positions of many such runs, each beginning at its own one, are packed into one list of rows: norms,
projections and MLPs act on rows, and only attention looks at which run a row belongs to.

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

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


CHECKED = 2
"""So many prompts are compared with the model's own logits."""


TOLERANCE = 1e-4
"""Largest distance of logits, as a share of the largest logit; for half precision 500 times this.
"""


NAMES = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "q", "k", "v", "z", "pattern")
"""What a run keeps of each layer."""


@dataclass(frozen=True)
class Run:
    """Activations of one run of ``batch`` prompts by name, one tensor per layer, from position
    ``first`` on.

    ``resid_pre`` (one more than there are layers: the last is what the final norm reads),
    ``resid_mid``, ``attn_out`` and ``mlp_out`` are (batch, position, d_model); ``q`` and ``z``
    (batch, position, head, d_head); ``pattern`` (batch, position, head, source position). ``k`` and
    ``v`` (batch, position, key-value head, d_head) hold all positions. Queries and keys are rotated
    already.
    """

    first: int
    values: dict[str, list[Tensor]]

    def __getitem__(self, name: str) -> list[Tensor]:
        return self.values[name]

    @classmethod
    def join(cls, parts: Sequence[Run]) -> Run:
        """Runs of several batches of prompts as one."""
        if len(parts) == 1:
            return parts[0]
        layers = {name: zip(*(part[name] for part in parts), strict=True) for name in NAMES}
        return cls(
            parts[0].first, {name: [torch.cat(some) for some in layers[name]] for name in NAMES}
        )

    def past_of(self, prompts: Int[Tensor, " prompt"]) -> Run:
        """Keys and values of these prompts, in their order: all that a run needs that goes on from
        here.
        """
        return Run(self.first, {name: [of[prompts] for of in self[name]] for name in ("k", "v")})


@dataclass(frozen=True)
class Rows:
    """The positions of several runs in one list: run by run, each from its own first position to
    the last.
    """

    example: Int[Tensor, " run"]  # the prompt of the base run that each run departs from
    run: Int[Tensor, " row"]
    position: Int[Tensor, " row"]
    last: Int[Tensor, " run"]  # the row of each run's last position

    @classmethod
    def of(cls, example: Int[Tensor, " run"], start: Int[Tensor, " run"], n_positions: int) -> Rows:
        """Rows of runs that begin at position ``start``; prompts have ``n_positions``."""
        length = n_positions - start
        end = length.cumsum(0)
        run = torch.arange(len(start), device=start.device).repeat_interleave(length)
        position = torch.arange(len(run), device=start.device) - (end - length - start)[run]
        return cls(example, run, position, end - 1)

    def only_last(self) -> Rows:
        """The last row of each run alone."""
        count = torch.arange(len(self.example), device=self.run.device)
        return Rows(self.example, self.run[self.last], self.position[self.last], count)


class ShortForward:
    """A bridge's blocks as separate steps, on packed rows; call :meth:`check` before trusting it."""

    def __init__(self, model: TransformerBridge) -> None:
        self.model = model
        cfg: Any = model.cfg
        self.n_layers, self.d_head = int(cfg.n_layers), int(cfg.d_head)

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
        theirs = self.model(tokens)[:, -1]
        off = ((own - theirs).abs().max() / theirs.abs().max()).item()
        if not off <= TOLERANCE * (1 if theirs.dtype.itemsize >= 4 else 500):
            raise NotImplementedError(
                f"{name}: the short forward's logits are off by {off:.1e} of the largest one"
            )

    @torch.no_grad()
    def run(self, tokens: Int[Tensor, "batch position"], past: Run | None = None) -> Run:
        """A run with everything that patching needs from it.

        Args:
            tokens: whole prompts.
            past: a run of the first tokens of the same prompts, or its keys and values; only the
                others are computed.
        """
        first = 0 if past is None else past["k"][0].shape[1]
        resid = self.model(tokens, stop_at_layer=0)[
            :, first:
        ]  # embeddings, and positions where they are learned
        position = torch.arange(first, tokens.shape[1], device=resid.device)
        rotation = self.rotation(tokens.shape[1], resid)
        values: dict[str, list[Tensor]] = {name: [] for name in NAMES}
        for layer in range(self.n_layers):
            block: Any = self.model.blocks[layer]
            normed = block.ln1(resid)
            q, k, v = (self.project(name, layer, normed, position, rotation) for name in "qkv")
            if past is not None:
                k, v = torch.cat([past["k"][layer], k], 1), torch.cat([past["v"][layer], v], 1)
            z, pattern = attend(q, k, v, self.scale)
            attn_out = self.write(layer, z)
            mid = resid + attn_out
            mlp_out = block.mlp(block.ln2(mid))
            for name, value in zip(
                NAMES, (resid, mid, attn_out, mlp_out, q, k, v, z, pattern), strict=True
            ):
                values[name].append(value)
            resid = mid + mlp_out
        values["resid_pre"].append(resid)
        return Run(first, values)

    def rest(
        self, resid: Float[Tensor, "row d_model"], rows: Rows, base: Run, layer: int
    ) -> Float[Tensor, "run d_model"]:
        """From the residual stream before ``layer`` to that after the last one, at each run's last
        position.

        Keys and values before a run's first position are those of the base run.
        """
        n_positions = base["k"][0].shape[1]
        rotation = self.rotation(n_positions, resid)
        for now in range(layer, self.n_layers):
            block: Any = self.model.blocks[now]
            normed = block.ln1(resid)
            k, v = base["k"][now][rows.example], base["v"][now][rows.example]  # copies
            k[rows.run, rows.position] = self.project("k", now, normed, rows.position, rotation)
            v[rows.run, rows.position] = self.project("v", now, normed, rows.position, rotation)
            if now == self.n_layers - 1:
                normed, resid, rows = normed[rows.last], resid[rows.last], rows.only_last()
            q = self.project("q", now, normed, rows.position, rotation)
            z = self._attend_rows(q, k, v, rows)
            resid = self.feed_forward(now, resid + self.write(now, z))
        return resid[rows.last]

    def _attend_rows(
        self, q: Float[Tensor, "row head d_head"], k: Tensor, v: Tensor, rows: Rows
    ) -> Tensor:
        """Attention of packed rows: queries are padded to the longest run."""
        offset = int(rows.position.min())
        where = rows.run, rows.position - offset
        length = k.shape[1] - offset
        if len(q) == len(k) * length:  # all runs begin at the same position
            return attend(q.unflatten(0, (len(k), length)), k, v, self.scale)[0].flatten(0, 1)
        padded = q.new_zeros(len(k), length, *q.shape[1:])
        padded[where] = q
        return attend(padded, k, v, self.scale)[0][where]

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
        cos, sin = (part[position][:, None] for part in rotation)
        low, high = value.chunk(2, -1)
        return value * cos + torch.cat([-high, low], -1) * sin

    def rotation(self, n_positions: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of the rotary positions, (position, d_head) each; None where positions
        are learned.
        """
        rotary = getattr(self.model, "rotary_emb", None)
        if rotary is None:
            return None
        cos, sin = rotary.original_component(
            like, torch.arange(n_positions, device=like.device)[None]
        )
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
        """Logits of all tokens, or of a few named for each row; these need no more than their
        columns of W_U.
        """
        normed = self.model.ln_final(resid)
        if tokens is None:
            return self.model.unembed(normed)
        columns = self.model.unembed.W_U.T[tokens]  # (..., choice, d_model)
        return (columns @ normed[..., None])[..., 0] + self.model.unembed.b_U[tokens]


def attend(
    q: Float[Tensor, "run query head d_head"],
    k: Float[Tensor, "run key kv_head d_head"],
    v: Float[Tensor, "run key kv_head d_head"],
    scale: float,
) -> tuple[Float[Tensor, "run query head d_head"], Float[Tensor, "run query head key"]]:
    """Causal attention of the last queries to all keys; head h reads key-value head h // (heads per
    key-value head).

    Returns:
        Head outputs z and the pattern.
    """
    n, length, heads, _ = q.shape
    keys, groups = k.shape[1:3]
    # The heads of a group share keys: they are further queries of one product.
    grouped = q.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    scores = (grouped @ k.permute(0, 2, 3, 1) * scale).view(
        n, groups, heads // groups, length, keys
    )
    position = torch.arange(keys, device=q.device)
    scores = scores.masked_fill(
        position > position[keys - length :, None], torch.finfo(q.dtype).min
    )
    pattern = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    z = (pattern.flatten(2, 3) @ v.transpose(1, 2)).view(n, groups, heads // groups, length, -1)
    return z.permute(0, 3, 1, 2, 4).flatten(2, 3), pattern.permute(0, 3, 1, 2, 4).flatten(2, 3)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: Python's, torch's on the CPU, or CUDA's."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in said or "can't allocate memory" in said)
    )
