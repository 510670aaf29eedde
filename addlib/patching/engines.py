"""Two exact ways to run a model with one activation replaced: a short one, and one for any bridge.

Both take a batch of *cells × prompts*: one activation of one layer, at one position or at all, of
one head or of all, each for one prompt of the base run. Both give the same results;
:mod:`addlib.patching.sweep` chooses, and asks either of them for what follows from the replacement
at the last position.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.patching.sites import KINDS, RESIDUAL, SPREADS, Patches
from addlib.patching.suffix_forward import ForwardCache, PackedSuffixes, ShortForward, attend

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


Hook = tuple[str | Callable[..., Any], Callable[..., Any]]
"""The name of a hook point, and what TransformerLens calls there."""


class ShortEngine:
    """Patches through :class:`~addlib.patching.suffix_forward.ShortForward`.

    Args:
        forward: of the model; checked.
        base: tokens of the prompts that are patched.
        source: tokens of those that the replacements come from.
        first: the first position at which any prompt differs; what comes before is run once for
            both, and only its keys and values are kept.
        batch_size: so many prompts are run together.
        noise: added to the stream before the first layer in the base run, at no position before
            ``first``.
    """

    def __init__(
        self,
        forward: ShortForward,
        base: Tensor,
        source: Tensor,
        first: int,
        batch_size: int,
        noise: Tensor | None = None,
    ) -> None:
        self.forward = forward
        self.first = first
        self.n_positions = base.shape[1]
        past = None
        if first:  # often one start for all prompts: the same examples
            starts, start_of = base[:, :first].unique(dim=0, return_inverse=True)
            runs = [forward.run(part) for part in starts.split(batch_size)]
            past = ForwardCache.join([run.keys_and_values(slice(None)) for run in runs])
            del runs
        base_parts = []
        source_parts = []
        for prompts in torch.arange(len(base), device=base.device).split(batch_size):
            own_past = past.keys_and_values(start_of[prompts]) if past else None
            # Batches of one shape: what is the same in both runs is then so to the last bit.
            added = None if noise is None else noise[prompts]
            base_parts.append(forward.run(base[prompts], own_past, added))
            source_parts.append(forward.run(source[prompts], own_past))
        self.base = ForwardCache.join(base_parts)
        self.source = ForwardCache.join(source_parts)

    def exchanged(self) -> ShortEngine:
        """The same with base and source exchanged."""
        twin = copy.copy(self)
        twin.base = self.source
        twin.source = self.base
        return twin

    @property
    def unpatched(self) -> Float[Tensor, "batch d_model"]:
        """The outcome of the base run."""
        return self.base["resid_pre"][-1][:, -1]

    def differs(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """Where an activation differs between both runs; one "head" for kinds without heads."""
        same = self.base[kind][layer] == self.source[kind][layer]
        if kind in RESIDUAL:
            same = same[:, :, None]
        differs = ~same.all(-1)
        n_before = self.n_positions - differs.shape[1]
        before = differs.new_zeros(len(differs), n_before, differs.shape[2])
        return torch.cat([before, differs], 1)

    def outcome(self, kind: str, layer: int, patches: Patches) -> Float[Tensor, "patch d_model"]:
        """The last residual stream at the last position after each replacement."""
        start = patches.start
        if layer == self.forward.n_layers - 1 and kind != "resid_pre":
            # What follows at other positions is never read.
            start = torch.full_like(start, self.n_positions - 1)
        suffixes = PackedSuffixes.of(patches.prompt, start, self.n_positions)
        replaced = patches.at(self.n_positions)[suffixes.suffix, suffixes.position]
        at = (patches.prompt[suffixes.suffix], suffixes.position - self.first)
        if kind == "resid_pre":
            new = self.source["resid_pre"][layer][at]
            resid = torch.where(replaced[:, None], new, self.base["resid_pre"][layer][at])
            return self.forward.finish(resid, suffixes, self.base, layer)
        resid = self.base["resid_pre"][layer + 1][at]  # a copy
        changed = torch.ones_like(replaced) if kind in SPREADS else replaced
        resid[changed] = self._after_layer(
            kind, layer, patches, suffixes.suffix[changed], suffixes.position[changed]
        )
        return self.forward.finish(resid, suffixes, self.base, layer + 1)

    def _after_layer(
        self,
        kind: str,
        layer: int,
        patches: Patches,
        patch: Int[Tensor, " row"],
        position: Int[Tensor, " row"],
    ) -> Float[Tensor, "row d_model"]:
        """The residual stream after the layer at rows (patch, position) that changed in it."""
        at = (patches.prompt[patch], position - self.first)
        base = self.base.of_layer(layer)
        source = self.source.of_layer(layer)
        if kind == "mlp_out":
            return base["resid_mid"][at] + source["mlp_out"][at]
        if kind == "resid_mid":
            mid = source["resid_mid"][at]
        elif kind == "attn_out":
            mid = base["resid_pre"][at] + source["attn_out"][at]
        else:
            z = base["z"][at]  # a copy
            offset = int(position.min()) if len(position) else self.n_positions - 1
            heads = self._heads(kind, patches)
            new = self._new_z(kind, base, source, patches, heads, offset)
            row = torch.arange(len(patch), device=z.device)[:, None]
            z[row, heads[patch]] = new[patch, position - offset]
            mid = base["resid_pre"][at] + self.forward.write(layer, z)
        return self.forward.feed_forward(layer, mid)

    @property
    def _heads_per_group(self) -> int:
        """Query heads that share one key-value head."""
        return self.base["q"][0].shape[2] // self.base["k"][0].shape[2]

    def _heads(self, kind: str, patches: Patches) -> Int[Tensor, "patch head"]:
        """The query heads that a patch acts on: one, or those that share a key-value head."""
        if kind not in ("k", "v"):
            return patches.head[:, None]
        shared = self._heads_per_group
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
        """Outputs of those heads from position ``offset`` on, with the kind's activation replaced."""
        position = torch.arange(
            offset - self.first, self.n_positions - self.first, device=heads.device
        )
        # (patch, position, head)
        at = (patches.prompt[:, None, None], position[None, :, None], heads[:, None])
        if kind == "z":
            return source["z"][at]
        keys_at = (patches.prompt, slice(None), heads[:, 0] // self._heads_per_group)
        k = base["k"][keys_at]  # (patch, position, d_head)
        v = base["v"][keys_at]
        if kind == "pattern":
            return source["pattern"][at] @ v[:, None]
        q = source["q"][at] if kind == "q" else base["q"][at]
        replaced = patches.at(self.n_positions)[..., None]
        if kind == "k":
            k = torch.where(replaced, source["k"][keys_at], k)
        if kind == "v":
            v = torch.where(replaced, source["v"][keys_at], v)
        return attend(q, k[:, :, None], v[:, :, None], self.forward.scale)[0]

    def logits(self, outcome: Tensor, tokens: Tensor | None = None) -> Float[Tensor, "... choice"]:
        """Logits from outcomes, of all tokens or of a few."""
        return self.forward.logits(outcome, tokens)


class HookEngine:
    """Patches through TransformerLens's hooks: whole forwards of many cells, for any bridge.

    Args:
        model: any bridge.
        base: tokens of the prompts that are patched.
        source: tokens of those that the replacements come from.
        batch_size: so many prompts are run together for what the base run gives unpatched.
        noise: added to the stream before the first layer, in the base run and in the source run.
    """

    def __init__(
        self,
        model: TransformerBridge,
        base: Tensor,
        source: Tensor,
        batch_size: int,
        noise: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> None:
        self.model = model
        self.base = base
        self.source = source
        self.batch_size = batch_size
        self.noise = noise
        parts = [
            model.run_with_hooks(base[rows], fwd_hooks=_adding(noise[0], rows))[:, -1]
            for rows in torch.arange(len(base), device=base.device).split(batch_size)
        ]
        self.unpatched: Float[Tensor, "batch d_vocab"] = torch.cat(parts)
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    def exchanged(self) -> HookEngine:
        """The same with base and source exchanged."""
        noise = self.noise[::-1]
        return HookEngine(self.model, self.source, self.base, self.batch_size, noise)

    def _both(self, kind: str, layer: int) -> tuple[Tensor, Tensor]:
        """The activation of the base run and of the source run, laid out as the library has it.

        Those of all layers are kept until another kind is asked for.
        """
        if f"blocks.{layer}.{KINDS[kind]}" not in self._kept:
            names = [f"blocks.{i}.{KINDS[kind]}" for i in range(self.model.cfg.n_layers)]
            runs = []
            for tokens, noise in zip((self.base, self.source), self.noise, strict=True):
                with self.model.hooks(fwd_hooks=_adding(noise)):
                    runs.append(self.model.run_with_cache(tokens, names_filter=names)[1])
            base, source = runs
            self._kept = {name: (base[name], source[name]) for name in names}
        return self._kept[f"blocks.{layer}.{KINDS[kind]}"]

    def differs(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """As :meth:`ShortEngine.differs`."""
        base, source = self._both(kind, layer)
        differs = (base != source).any(-1)
        if kind == "pattern":
            return differs.transpose(1, 2)
        return differs[:, :, None] if kind in RESIDUAL else differs

    def outcome(self, kind: str, layer: int, patches: Patches) -> Float[Tensor, "patch d_vocab"]:
        """The last logits after each replacement."""
        new = self._both(kind, layer)[1][patches.prompt]
        at = patches.at(self.base.shape[1])[:, :, None]  # (patch, position, head)
        if kind not in RESIDUAL:
            n_heads = new.shape[1 if kind == "pattern" else 2]
            head = torch.arange(n_heads, device=at.device)
            at = at & (patches.head[:, None] == head)[:, None]
            if kind == "pattern":
                at = at.transpose(1, 2)
            at = at[..., None]

        def replace(value: Tensor, **_: object) -> Tensor:
            # In place: at some hook points the tensor is read again by the residual connection that
            # goes around.
            return value.copy_(torch.where(at, new, value))

        hook: Hook = (f"blocks.{layer}.{KINDS[kind]}", replace)
        hooks = [*_adding(self.noise[0], patches.prompt), hook]
        logits = self.model.run_with_hooks(self.base[patches.prompt], fwd_hooks=hooks)
        return logits[:, -1]

    def logits(self, outcome: Tensor, tokens: Tensor | None = None) -> Float[Tensor, "... choice"]:
        """Logits from outcomes, of all tokens or of a few."""
        return outcome if tokens is None else outcome.gather(-1, tokens)


def _adding(noise: Tensor | None, prompts: Tensor | slice = slice(None)) -> list[Hook]:
    """A hook that adds to the stream before the first layer; none where nothing is added."""
    if noise is None:
        return []

    def add(value: Tensor, **_: object) -> Tensor:
        return value.add_(noise[prompts])  # in place, as replacements are

    return [("blocks.0.hook_resid_pre", add)]
