"""Weights from files of other programs, under the names that this book's models have, and back.

Three forms are read. *Classic*: the state dict of TransformerLens 1 and 2, whose matrices have a
head axis and multiply from the right. *Oldest*: that of the first grokking notebooks, whose
matrices multiply from the left, with W_O as one matrix. *Native*: that of TransformerLens 4's own
small models, which is the book's. Only tensors are read, never code.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.models.addition import ModelConfig
from addlib.models.bridge import boot_bridge, weights
from addlib.store import sha256

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST_BYTES = 500_000_000
"""A larger file is not opened: a model of this kind has some megabytes."""

WRAPPERS = ("model", "state_dict", "model_state_dict", "checkpoints", "state_dicts")
"""Keys under which programs keep a state dict among other things; of a list, the last one."""

BUFFERS = re.compile(r"blocks\.\d+\.attn\.(mask|IGNORE)")
"""What a classic state dict holds besides parameters: they follow from the shape."""

NATIVE_NAMES = {
    "embed.W_E": "embed.weight",
    "pos_embed.W_pos": "pos_embed.weight",
    "ln1.w": "ln1.weight",
    "ln1.b": "ln1.bias",
    "ln2.w": "ln2.weight",
    "ln2.b": "ln2.bias",
    "mlp.W_in": "mlp.in.weight",
    "mlp.b_in": "mlp.in.bias",
    "mlp.W_out": "mlp.out.weight",
    "mlp.b_out": "mlp.out.bias",
    "ln_final.w": "ln_final.weight",
    "ln_final.b": "ln_final.bias",
    "unembed.W_U": "unembed.weight",
    "unembed.b_U": "unembed.bias",
} | {
    f"attn.{kind}_{part}": f"attn.{part.lower()}.{name}"
    for part in "QKVO"
    for kind, name in (("W", "weight"), ("b", "bias"))
}
"""Native names by the classic ones, without ``blocks.0.`` in front."""


class ModelFileError(ValueError):
    """A file that is not read as a model; the message names it and says what is wrong."""


@dataclass(frozen=True)
class FileShape(ModelConfig):
    """The shape of a model from a file, which need not be one of the book's.

    Args:
        head_width, mlp_width: of one head, and neurons of each MLP.
        act_fn: of the neurons, by TransformerLens's name.
        normalization_type: ``"LN"``, or None for none.
        n_ctx, d_vocab, d_vocab_out: positions, and tokens that are read and predicted.
    """

    head_width: int = 1
    mlp_width: int = 1
    act_fn: str = "relu"
    normalization_type: str | None = "LN"
    n_ctx: int = 1
    d_vocab: int = 1
    d_vocab_out: int = 1

    @property
    def d_model(self) -> int:
        """Residual width."""
        return self.width

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.head_width

    @property
    def d_mlp(self) -> int:
        """Neurons of each MLP."""
        return self.mlp_width

    @property
    def text(self) -> str:
        """The shape in words."""
        layers = f"{self.n_layers} layer{'s' * (self.n_layers > 1)}"
        heads = f"{self.n_heads} head{'s' * (self.n_heads > 1)} of width {self.head_width}"
        mlp = "no MLP" if self.attn_only else f"{self.mlp_width:,} neurons ({self.act_fn})"
        norm = "LayerNorm" if self.normalization_type else "no normalisation"
        return f"{layers}, {heads}, residual width {self.width}, {mlp}, {norm}"


@dataclass(frozen=True)
class StateDict:
    """What a file holds: weights under native names, in float32, and the shape they give.

    Args:
        path, sha256: of the file.
        form: "classic", "oldest" or "native".
        shape: ``n_heads`` is 1 in the native form, which does not tell it.
        weights: biases that the file leaves out are zero, and a folded LayerNorm has gain 1. There
            may be an ``unembed.bias``, which the book's models don't have: see :meth:`parameters`.
        has_norm: whether LayerNorm's parameters are there; where not, it may have been folded.
    """

    path: Path
    sha256: str
    form: str
    shape: FileShape
    weights: Mapping[str, Tensor]
    has_norm: bool

    def with_shape(self, **changes: Any) -> StateDict:
        """The same weights read in another way."""
        return replace(self, shape=replace(self.shape, **changes))

    def with_tokens(self, read: list[int], predicted: list[int]) -> StateDict:
        """The same model with some of its tokens alone, in this order.

        What it does not predict, -1, gets the mean of the other tokens' logits: it is never chosen.
        """
        weights = dict(self.weights)
        weights["embed.weight"] = weights["embed.weight"][read]
        kept = [token for token in predicted if token >= 0]
        for name in ("unembed.weight", "unembed.bias"):
            mean = weights[name][kept].mean(0)
            rows = [mean if token < 0 else weights[name][token] for token in predicted]
            weights[name] = torch.stack(rows)
        shape = replace(self.shape, d_vocab=len(read), d_vocab_out=len(predicted))
        return replace(self, shape=shape, weights=weights)

    def build(self, device: str = "cpu", seed: int | None = None) -> TransformerBridge:
        """The bridge with these weights, or with fresh ones drawn from a seed."""
        shape = self.shape
        model = boot_bridge(
            shape,
            shape,
            seed or 0,
            device,
            n_layers=shape.n_layers,
            d_vocab_out=shape.d_vocab_out,
            normalization_type=shape.normalization_type,
            attn_only=shape.attn_only,
            act_fn=shape.act_fn,
        )
        if seed is None:
            with torch.no_grad():
                values = self.parameters()
                for name, parameter in weights(model).items():
                    parameter.copy_(values[name])
        return model.eval()

    def parameters(self) -> dict[str, Tensor]:
        """The weights without an output bias: another bias is shifted, to the same logits.

        It is LayerNorm's where LayerNorm comes last, else that of the last sum.
        """
        values = dict(self.weights)
        shift = _as_shift(values.pop("unembed.bias"), values["unembed.weight"])
        part = "attn.o" if self.shape.attn_only else "mlp.out"
        last = f"blocks.{self.shape.n_layers - 1}.{part}.bias"
        name = "ln_final.bias" if self.shape.normalization_type else last
        values[name] = (values[name].double() + shift).float()
        return values


# --------------------------------------------------------------------------- reading
def read_state_dict(path: str | Path) -> StateDict:
    """The weights in a ``.pth``, ``.pt`` or ``.safetensors`` file, with the shape that they give.

    Raises:
        ModelFileError: one sentence on why the file is not read.
    """
    path = Path(path).expanduser()
    tensors = _checked(path, _state_of(path, _opened(path)))
    form = _form(path, tensors)
    has_norm = "ln_final.w" in tensors or "ln_final.weight" in tensors
    heads = 1
    if form != "native":
        if form == "oldest":
            tensors = _classic_of_oldest(path, tensors)
        queries = tensors.get("blocks.0.attn.W_Q", torch.zeros(1))
        tensors = _native_of_classic(path, tensors)
        heads = len(queries)
    shape = _shape(path, tensors, heads, has_norm)
    complete = _completed(path, tensors, shape)
    return StateDict(path, sha256(path), form, shape, complete, has_norm)


def _opened(path: Path) -> Any:
    """The file's content; what is no file, too large or not whole is refused."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        link = f"a link to {path.readlink()}, which is " if path.is_symlink() else ""
        raise ModelFileError(f"{path} is {link}not there") from error
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror}") from error
    if path.is_dir():
        raise ModelFileError(
            f"{path} is a folder without a run.json: name a run's folder, or a model's file"
        )
    if not path.is_file():
        raise ModelFileError(f"{path} is no file that can be read whole")
    if path.suffix != ".safetensors" and zipfile.is_zipfile(path):  # it may be packed
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as packed:
            size = max(size, sum(member.file_size for member in packed.infolist()))
    if size > MOST_BYTES:
        raise ModelFileError(
            f"{path} has {size / 1e9:.1f} GB and is not opened: at most {MOST_BYTES / 1e9} GB is"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix in (".pth", ".pt"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise ModelFileError(
                f"{path} is damaged, or holds other things than tensors"
            ) from error
        raise ModelFileError(
            f"{path} wants to run code ({wanted[1]}) and is not opened: save the "
            f"tensors alone, torch.save(model.state_dict(), ...)"
        ) from error
    except PermissionError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:  # torch and safetensors have no common class for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path} is damaged, perhaps cut off: {reason}") from error
    raise ModelFileError(f"{path} must end in .pth, .pt or .safetensors")


def _state_of(path: Path, content: Any) -> Mapping[str, Any]:
    """The state dict in a file's content, bare or below a known key."""
    for key in WRAPPERS:
        if isinstance(content, Mapping) and key in content:
            inside = content[key]
            content = inside[-1] if isinstance(inside, list) and inside else inside
            break
    names = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not names or not any(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(map(str, content))[:200] if isinstance(content, Mapping) else ""
        found = (
            f"a dict of {keys or 'nothing'}" if keys or content == {} else type(content).__name__
        )
        raise ModelFileError(f"{path} holds no state dict: {found}")
    return content


def _checked(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parameters in float32; other things than finite numbers are refused."""
    tensors = {}
    size = sum(4 * value.numel() for value in state.values() if isinstance(value, Tensor))
    if size > MOST_BYTES:  # a small file may hold one number that stands for many
        raise ModelFileError(
            f"{path} holds tensors of {size / 1e9:.1f} GB: at most {MOST_BYTES / 1e9} GB is read"
        )
    for name, value in state.items():
        if BUFFERS.fullmatch(name):
            continue
        dense = isinstance(value, Tensor) and value.layout == torch.strided
        if not dense or not value.is_floating_point():
            kind = str(value.dtype if dense else getattr(value, "layout", type(value).__name__))
            raise ModelFileError(f"{path}: {name} must be a tensor of real numbers, not {kind}")
        if not value.numel():
            raise _misfit(path, name, value, "of at least one number")
        if not value.isfinite().all():
            raise ModelFileError(f"{path}: {name} has NaN or infinite entries")
        tensors[name] = value.detach().float()
    return tensors


def _form(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """By names and by the number of axes of the first W_O."""
    if "embed.weight" in tensors:
        return "native"
    first = tensors.get("blocks.0.attn.W_O")
    if "embed.W_E" not in tensors or first is None:
        some = ", ".join(list(tensors)[:4])
        raise ModelFileError(
            f"{path} is no state dict of HookedTransformer or of this book: it has no embed.W_E "
            f"with blocks.0.attn.W_O, and no embed.weight; its first names are {some}"
        )
    return "classic" if first.ndim == 3 else "oldest"


def _split(name: str) -> tuple[str, str]:
    """``blocks.0.attn.W_Q`` → ``blocks.0.``, ``attn.W_Q``."""
    block = re.match(r"blocks\.\d+\.", name)
    return (block[0], name[block.end() :]) if block else ("", name)


def _classic_of_oldest(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classic form of the oldest: matrices turned, and W_O split by heads."""
    classic = {}
    first = tensors.get("blocks.0.attn.W_Q")
    heads = 1 if first is None or first.ndim != 3 else len(first)
    for name, value in tensors.items():
        _, part = _split(name)
        if part == "attn.W_O":
            if value.ndim != 2 or value.shape[1] % heads:
                raise _misfit(path, name, value, f"a matrix with {heads} heads side by side")
            value = value.T.unflatten(0, (heads, -1))
        elif re.fullmatch(r"embed.W_E|mlp.W_(in|out)|attn.W_[QKV]", part) and value.ndim > 1:
            value = value.transpose(-1, -2)
        classic[name] = value
    return classic


def _native_of_classic(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The native form of the classic: heads side by side, matrices that multiply from the left."""
    native = {}
    foreign = []
    for name, value in tensors.items():
        block, part = _split(name)
        if part not in NATIVE_NAMES:
            foreign.append(name)
            continue
        if re.fullmatch(r"attn.W_[QKVO]", part) and value.ndim != 3:
            raise _misfit(path, name, value, "three axes, the first for heads")
        if re.fullmatch(r"attn.W_[QKV]", part):
            value = value.transpose(1, 2).flatten(0, 1)
        elif part == "attn.W_O":
            value = value.flatten(0, 1).T
        elif re.fullmatch(r"attn.b_[QKV]", part):
            value = value.flatten()
        elif re.fullmatch(r"mlp.W_(in|out)|unembed.W_U", part) and value.ndim == 2:
            value = value.T
        native[block + NATIVE_NAMES[part]] = value.contiguous()
    if foreign:
        raise ModelFileError(_foreign(path, foreign))
    return native


def _foreign(path: Path, names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{path} holds names that no such model has: {', '.join(names[:4])}{more}"


def _misfit(path: Path, name: str, value: Tensor, wanted: object) -> ModelFileError:
    return ModelFileError(f"{path}: {name} has shape {tuple(value.shape)}: must be {wanted}")


def _shape(path: Path, values: Mapping[str, Tensor], heads: int, has_norm: bool) -> FileShape:
    """The shape that the tensors' own sizes give."""
    neurons = values.get("blocks.0.mlp.in.weight")
    needed = ["embed.weight", "pos_embed.weight", "unembed.weight", "blocks.0.attn.q.weight"]
    for name in [*needed, *(["blocks.0.mlp.in.weight"] if neurons is not None else [])]:
        if name not in values:
            raise ModelFileError(f"{path} lacks {name} (or its classic name)")
        if values[name].ndim != 2:
            raise _misfit(path, name, values[name], "a matrix")
    blocks = {int(name.split(".")[1]) for name in values if re.match(r"blocks\.\d+\.", name)}
    return FileShape(
        n_layers=len(blocks),
        n_heads=heads,
        width=values["embed.weight"].shape[1],
        attn_only=neurons is None,
        head_width=values["blocks.0.attn.q.weight"].shape[0] // heads,
        mlp_width=1 if neurons is None else neurons.shape[0],
        normalization_type="LN" if has_norm else None,
        n_ctx=values["pos_embed.weight"].shape[0],
        d_vocab=values["embed.weight"].shape[0],
        d_vocab_out=values["unembed.weight"].shape[0],
    )


def _forms(shape: FileShape) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Native names with their sizes, and whether a file may leave them out: biases, LayerNorms."""
    d_model = shape.d_model
    heads = shape.n_heads * shape.d_head
    yield "embed.weight", (shape.d_vocab, d_model), False
    yield "pos_embed.weight", (shape.n_ctx, d_model), False
    for block in (f"blocks.{layer}." for layer in range(shape.n_layers)):
        norms = ("ln1",) if shape.attn_only else ("ln1", "ln2")
        for norm in norms:
            yield f"{block}{norm}.weight", (d_model,), True
            yield f"{block}{norm}.bias", (d_model,), True
        for part in "qkv":
            yield f"{block}attn.{part}.weight", (heads, d_model), False
            yield f"{block}attn.{part}.bias", (heads,), True
        yield f"{block}attn.o.weight", (d_model, heads), False
        yield f"{block}attn.o.bias", (d_model,), True
        if not shape.attn_only:
            yield f"{block}mlp.in.weight", (shape.d_mlp, d_model), False
            yield f"{block}mlp.in.bias", (shape.d_mlp,), True
            yield f"{block}mlp.out.weight", (d_model, shape.d_mlp), False
            yield f"{block}mlp.out.bias", (d_model,), True
    yield "ln_final.weight", (d_model,), True
    yield "ln_final.bias", (d_model,), True
    yield "unembed.weight", (shape.d_vocab_out, d_model), False
    yield "unembed.bias", (shape.d_vocab_out,), True


def _completed(path: Path, values: Mapping[str, Tensor], shape: FileShape) -> dict[str, Tensor]:
    """All weights of the shape, with zeros and ones for those that may be missing."""
    known = {name for name, _, _ in _forms(shape)}
    if foreign := [name for name in values if name not in known]:
        raise ModelFileError(_foreign(path, foreign))
    complete = {}
    for name, size, optional in _forms(shape):
        if name in values:
            if values[name].shape != size:
                raise _misfit(path, name, values[name], size)
            complete[name] = values[name]
        elif not optional or (shape.normalization_type and name.startswith("ln_final")):
            raise ModelFileError(f"{path} lacks {name} (or its classic name)")
        else:
            is_gain = ".ln" in f".{name}" and name.endswith("weight")
            complete[name] = torch.ones(size) if is_gain else torch.zeros(size)
    bias, unembed = complete["unembed.bias"].double(), complete["unembed.weight"].double()
    if not torch.allclose(unembed @ _as_shift(bias, unembed), bias, atol=1e-6):
        raise ModelFileError(
            f"{path}: its output bias b_U can't be written as a shift of the residual stream, and "
            f"the book's models have none"
        )
    return complete


def _as_shift(bias: Float[Tensor, " d_vocab"], unembed: Tensor) -> Float[Tensor, " d_model"]:
    """The smallest vector that the unembedding turns into the output bias, in float64."""
    columns = bias.double()[:, None]
    return torch.linalg.lstsq(unembed.double(), columns, driver="gelsd").solution[:, 0]


# --------------------------------------------------------------------------- writing
def classic_state_dict(model: TransformerBridge) -> dict[str, Tensor]:
    """A model's state dict as ``HookedTransformer.load_state_dict`` of TransformerLens 1 and 2 reads it.

    Tensors are copies on the CPU.
    """
    cfg = model.cfg
    heads = cfg.n_heads
    values = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    classic = {}
    by_native = {native: name for name, native in NATIVE_NAMES.items()}
    for name, value in values.items():
        block, part = _split(name)
        if part in ("attn.q.weight", "attn.k.weight", "attn.v.weight"):
            value = value.unflatten(0, (heads, -1)).transpose(1, 2)
        elif part == "attn.o.weight":
            value = value.T.unflatten(0, (heads, -1))
        elif part in ("attn.q.bias", "attn.k.bias", "attn.v.bias"):
            value = value.unflatten(0, (heads, -1))
        elif part in ("mlp.in.weight", "mlp.out.weight", "unembed.weight"):
            value = value.T
        classic[block + by_native[part]] = value.contiguous().clone()
    for layer in range(cfg.n_layers):
        mask = torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool)
        classic[f"blocks.{layer}.attn.mask"] = mask.tril()
        classic[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(float("-inf"))
    return classic
