"""Two exact ways to run a model with one activation replaced: a short one, and one for any bridge.

Both take a batch of *cells × prompts*: one activation of one layer, at one position or at all, of
one head or of all, each for one prompt of the base run. Both give the same results;
:mod:`addlib.patching.sweep` chooses, and asks either of them for what follows from the replacement at the
last position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.patching.sites import KINDS, RESIDUAL, SPREADS, Patches
from addlib.patching.suffix_forward import Rows, Run, ShortForward, attend

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class ShortEngine:
    """Patches through :class:`~addlib.patching.suffix_forward.ShortForward`.

    Args:
        forward: of the model; checked.
        base: tokens of the prompts that are patched.
        source: tokens of those that the replacements come from.
        first: the first position at which any prompt differs; what comes before is run once for
            both, and only its keys and values are kept.
        rows: so many prompts are run together.
    """

    def __init__(
        self, forward: ShortForward, base: Tensor, source: Tensor, first: int, rows: int
    ) -> None:
        self.forward, self.first, self.n_positions = forward, first, base.shape[1]
        runs: tuple[list[Run], list[Run]] = ([], [])
        before, which = None, torch.zeros_like(base[:, 0])
        if first:  # often one for all: the same examples
            begins, which = base[:, :first].unique(dim=0, return_inverse=True)
            before = Run.join([forward.run(some) for some in begins.split(rows)])
        for some, others, begin in zip(
            base.split(rows), source.split(rows), which.split(rows), strict=True
        ):
            past = before.past_of(begin) if before else None
            # In batches of the same shape: what is the same in both is then the same to the last
            # bit.
            for run, tokens in zip(runs, (some, others), strict=True):
                run.append(forward.run(tokens, past))
        self.base, self.source = Run.join(runs[0]), Run.join(runs[1])

    def exchanged(self) -> ShortEngine:
        """The same with base and source exchanged."""
        twin = object.__new__(ShortEngine)
        twin.__dict__ |= self.__dict__ | {"base": self.source, "source": self.base}
        return twin

    @property
    def unpatched(self) -> Float[Tensor, "batch d_model"]:
        """The outcome of the base run."""
        return self.base["resid_pre"][-1][:, -1]

    def differs(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """Where an activation of the two runs is not the same; the head axis has length 1 for kinds
        without heads.
        """
        same = self.base[kind][layer] == self.source[kind][layer]
        if kind in RESIDUAL:
            same = same[:, :, None]
        here = ~same.all(-1)
        before = here.new_zeros(len(here), self.n_positions - here.shape[1], here.shape[2])
        return torch.cat([before, here], 1)

    def outcome(self, kind: str, layer: int, patches: Patches) -> Float[Tensor, "patch d_model"]:
        """The last residual stream at the last position after each replacement."""
        last_layer = layer == self.forward.n_layers - 1
        start = patches.start
        if last_layer and kind != "resid_pre":  # what follows at other positions is never read
            start = torch.full_like(start, self.n_positions - 1)
        rows = Rows.of(patches.example, start, self.n_positions)
        replaced = patches.at(self.n_positions)[rows.run, rows.position]
        where = rows.example[rows.run], rows.position - self.first
        if kind == "resid_pre":
            resid = torch.where(
                replaced[:, None], self.source[kind][layer][where], self.base[kind][layer][where]
            )
            return self.forward.rest(resid, rows, self.base, layer)
        resid = self.base["resid_pre"][layer + 1][where]
        hit = slice(None) if kind in SPREADS else replaced
        resid[hit] = self._after(kind, layer, patches, rows.run[hit], rows.position[hit])
        return self.forward.rest(resid, rows, self.base, layer + 1)

    def _after(
        self, kind: str, layer: int, patches: Patches, run: Tensor, position: Tensor
    ) -> Tensor:
        """The residual stream after the layer at rows whose share of the layer changed."""
        where = patches.example[run], position - self.first
        base, source = (
            {name: of[name][layer] for name in of.values} for of in (self.base, self.source)
        )
        if kind == "mlp_out":
            return base["resid_mid"][where] + source["mlp_out"][where]
        if kind == "resid_mid":
            mid = source["resid_mid"][where]
        elif kind == "attn_out":
            mid = base["resid_pre"][where] + source["attn_out"][where]
        else:
            z = base["z"][where]  # a copy
            offset = int(position.min()) if len(position) else self.n_positions - 1
            heads = self._heads(kind, patches)
            new = self._new_z(kind, base, source, patches, heads, offset)
            z[torch.arange(len(run), device=z.device)[:, None], heads[run]] = new[
                run, position - offset
            ]
            mid = base["resid_pre"][where] + self.forward.write(layer, z)
        return self.forward.feed_forward(layer, mid)

    def _heads(self, kind: str, patches: Patches) -> Int[Tensor, "patch head"]:
        """The heads that a patch acts on: one, or those that share a key-value head."""
        if kind not in ("k", "v"):
            return patches.head[:, None]
        shared = self.base["q"][0].shape[2] // self.base["k"][0].shape[2]
        return patches.head[:, None] * shared + torch.arange(shared, device=patches.head.device)

    def _new_z(
        self,
        kind: str,
        base: dict[str, Tensor],
        source: dict[str, Tensor],
        patches: Patches,
        heads: Int[Tensor, "patch head"],
        offset: int,
    ) -> Float[Tensor, "patch position head d_head"]:
        """Outputs of those heads from position ``offset`` on, computed anew with q, k, v, pattern
        or z replaced.
        """
        kept = torch.arange(offset - self.first, self.n_positions - self.first, device=heads.device)
        where = (
            patches.example[:, None, None],
            kept[None, :, None],
            heads[:, None],
        )  # (patch, position, head)
        if kind == "z":
            return source["z"][where]
        shared = base["q"].shape[2] // base["k"].shape[2]
        own = heads[:, 0] // shared
        k, v = (
            base["k"][patches.example, :, own],
            base["v"][patches.example, :, own],
        )  # (patch, position, d_head)
        if kind == "pattern":
            return source["pattern"][where] @ v[:, None]
        q = (source if kind == "q" else base)["q"][where]
        at = patches.at(self.n_positions)[..., None]
        if kind == "k":
            k = torch.where(at, source["k"][patches.example, :, own], k)
        if kind == "v":
            v = torch.where(at, source["v"][patches.example, :, own], v)
        return attend(q, k[:, :, None], v[:, :, None], self.forward.scale)[0]

    def logits(self, outcome: Tensor, tokens: Tensor | None = None) -> Float[Tensor, "... choice"]:
        """Logits from outcomes, of all tokens or of a few."""
        return self.forward.logits(outcome, tokens)


class HookEngine:
    """Patches through TransformerLens's hooks: whole forwards of many cells at once, for bridges of
    any form.

    Args:
        model: any bridge.
        base: tokens of the prompts that are patched.
        source: tokens of those that the replacements come from.
        rows: so many prompts are run together for what the base run gives unpatched.
    """

    def __init__(self, model: TransformerBridge, base: Tensor, source: Tensor, rows: int) -> None:
        self.model, self.base, self.source, self.n_positions = model, base, source, base.shape[1]
        self.rows = rows
        self.unpatched: Float[Tensor, "batch d_vocab"] = torch.cat(
            [model(some)[:, -1] for some in base.split(rows)]
        )
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    def exchanged(self) -> HookEngine:
        """The same with base and source exchanged."""
        return HookEngine(self.model, self.source, self.base, self.rows)

    def _both(self, kind: str, layer: int) -> tuple[Tensor, Tensor]:
        """The activation in the base run and in the other, (batch, position, …) or, for patterns,
        (batch, head, …).
        """
        name = f"blocks.{layer}.{KINDS[kind]}"
        if name not in self._kept:
            self._kept.clear()
            names = [
                f"blocks.{layer}.{hook}"
                for layer in range(self.model.cfg.n_layers)
                for hook in [KINDS[kind]]
            ]
            caches = [
                self.model.run_with_cache(tokens, names_filter=names)[1]
                for tokens in (self.base, self.source)
            ]
            self._kept = {one: (caches[0][one], caches[1][one]) for one in names}
        return self._kept[name]

    def differs(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """As :meth:`ShortEngine.differs`."""
        base, source = self._both(kind, layer)
        here = (base != source).any(-1)
        if kind == "pattern":
            return here.transpose(1, 2)
        return here[:, :, None] if kind in RESIDUAL else here

    def outcome(self, kind: str, layer: int, patches: Patches) -> Float[Tensor, "patch d_vocab"]:
        """The last logits after each replacement."""
        new = self._both(kind, layer)[1][patches.example]
        at = patches.at(self.n_positions)
        if kind in RESIDUAL:
            at = at[:, :, None]
        else:
            n_heads = new.shape[1] if kind == "pattern" else new.shape[2]
            head = patches.head[:, None] == torch.arange(n_heads, device=at.device)
            both = (
                head[:, :, None] & at[:, None, :]
                if kind == "pattern"
                else at[:, :, None] & head[:, None, :]
            )
            at = both[..., None]

        def replace(value: Tensor, **_: object) -> Tensor:
            # In place: at some hook points the tensor is read again by the residual connection that
            # goes around.
            return value.copy_(torch.where(at, new, value))

        name = f"blocks.{layer}.{KINDS[kind]}"
        return self.model.run_with_hooks(self.base[patches.example], fwd_hooks=[(name, replace)])[
            :, -1
        ]

    def logits(self, outcome: Tensor, tokens: Tensor | None = None) -> Float[Tensor, "... choice"]:
        """Logits from outcomes, of all tokens or of a few."""
        return outcome if tokens is None else outcome.gather(-1, tokens)
