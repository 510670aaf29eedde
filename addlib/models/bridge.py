"""TransformerLens's native bridge as the models of both tasks use it, and its weights by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from addlib.device import choose_device

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def boot_bridge(
    config: Any, task: Any, seed: int, device: str, **settings: Any
) -> TransformerBridge:
    """The native bridge with ReLU and learned positions, freshly initialised.

    Args:
        config: has ``d_model``, ``d_head``, ``d_mlp`` and ``n_heads``.
        task: has ``n_ctx`` and ``d_vocab``.
        seed: of the weights, which are drawn on the CPU.
        device: as for :func:`choose_device`.
        settings: more fields of TransformerLens's ``TransformerBridgeConfig``.
    """
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import boot

    chosen = choose_device(device)
    cfg = TransformerBridgeConfig(
        d_model=config.d_model,
        d_head=config.d_head,
        d_mlp=config.d_mlp,
        n_heads=config.n_heads,
        n_ctx=task.n_ctx,
        d_vocab=task.d_vocab,
        seed=seed,
        device=str(chosen),
        **{"act_fn": "relu", **settings},
    )
    return boot(cfg, device=chosen)


def weights(model: TransformerBridge) -> dict[str, Tensor]:
    """The live parameters by TransformerLens's names, e.g. ``"blocks.0.attn.q.weight"``."""
    parameters = {id(p) for p in model.parameters()}
    return {name: p for name, p in model.state_dict(keep_vars=True).items() if id(p) in parameters}
