"""The model: a configuration of the addition transformer, and TransformerLens's native bridge built
from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.bounds import check_whole
from addlib.task import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the transformer. The default is the model of Quirke & Barez (ICLR 2024): one layer,
    three heads.

    Args:
        n_layers: 1 or more.
        n_heads: attention heads per layer, at most ``width``.
        width: upper bound of the residual width; ``d_model`` is its largest multiple of
            ``n_heads``.
        attn_only: True leaves the MLP out.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    n_layers: int = 1
    n_heads: int = 3
    width: int = 512
    attn_only: bool = False

    def __post_init__(self) -> None:
        check_whole(self, {"n_layers": 1, "n_heads": 1, "width": 1})
        if self.n_heads > self.width:
            raise ValueError(f"n_heads = {self.n_heads}: must be at most width = {self.width}")
        if not isinstance(self.attn_only, bool):
            raise ValueError(f"attn_only = {self.attn_only!r}: must be True or False")

    @property
    def d_model(self) -> int:
        """Residual width: the largest multiple of ``n_heads`` that is at most ``width`` (3 heads,
        512 → 510).
        """
        return self.width - self.width % self.n_heads

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Neurons of each MLP, 4 · d_model."""
        return 4 * self.d_model


def choose_device(device: str = "auto") -> torch.device:
    """The torch device for ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or
    ``"cuda:1"``.

    Raises:
        ValueError: an unknown name, or a device that this machine lacks.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    gpus = torch.cuda.device_count()
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise ValueError(f"device = {device!r}: must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if kind == "cuda" and int(index or 0) >= gpus:
        raise ValueError(
            f"device = {device!r}: this machine has {gpus} CUDA devices; use 'auto' or 'cpu'"
        )
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def build_model(
    config: ModelConfig, task: AdditionTask, seed: int, device: str = "cpu"
) -> TransformerBridge:
    """A freshly initialised TransformerLens bridge: ReLU, LayerNorm, learned positions, vocabulary
    B + 2 in and out.

    Weights are drawn on the CPU from ``seed`` alone, so they don't depend on the device.
    TransformerLens 4 scales output projections by 1/√(2 · layers) at initialisation; its version 2,
    which older write-ups used, did not.
    """
    return boot_bridge(
        config,
        task,
        seed,
        device,
        n_layers=config.n_layers,
        d_vocab_out=task.d_vocab,
        normalization_type="LN",
        attn_only=config.attn_only,
    )


def boot_bridge(
    config: Any, task: Any, seed: int, device: str, **settings: Any
) -> TransformerBridge:
    """The native bridge with ReLU and learned positions, of the widths in ``config``, for the
    tokens of ``task``.

    Args:
        config: has ``d_model``, ``d_head``, ``d_mlp`` and ``n_heads``.
        task: has ``n_ctx`` and ``d_vocab``.
        seed: of the weights, which are drawn on the CPU.
        device: as for :func:`choose_device`.
        settings: more fields of TransformerLens's ``TransformerBridgeConfig``.
    """
    import transformer_lens.model_bridge.sources.native  # noqa: F401  registers boot_native
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    where = choose_device(device)
    return TransformerBridge.boot_native(
        TransformerBridgeConfig(
            d_model=config.d_model,
            d_head=config.d_head,
            d_mlp=config.d_mlp,
            n_heads=config.n_heads,
            n_ctx=task.n_ctx,
            d_vocab=task.d_vocab,
            act_fn="relu",
            seed=seed,
            device=str(where),
            **settings,
        ),
        device=where,
    )


def weights(model: TransformerBridge) -> dict[str, Tensor]:
    """The live parameters under TransformerLens's names (``"blocks.0.attn.q.weight"``); no copies
    are made.
    """
    parameters = {id(p) for p in model.parameters()}
    return {name: p for name, p in model.state_dict(keep_vars=True).items() if id(p) in parameters}


def answer_logits(
    model: TransformerBridge, task: AdditionTask, tokens: Int[Tensor, "batch n_ctx"]
) -> Float[Tensor, "batch n_answer d_vocab"]:
    """Logits that predict the answer digits, by column (``[:, 0]`` is for A0), from the library's
    own forward.
    """
    logits = model(tokens)[:, task.answer_positions.start : task.answer_positions.stop]
    return task.by_column(logits)
