"""Quantised GGUF files unpacked to float32 once, and kept as a Hugging Face folder that loads in
seconds.

A model lives in ``<cache>/llm/<name>-<start of the GGUF's SHA-256>/``: ``float32/`` is the unpacked
folder, with a list of its files' sizes and SHA-256; ``model.gguf`` is there if it was downloaded
(:mod:`addlib.llm.weights`). Folders appear whole or not at all, one process makes them while others
wait, and what is damaged is removed and made again.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from addlib.files import write_whole
from addlib.store import REMEDY, CacheFolder, cache_dir

FORMAT = "addlib-llm-1"


class WeightsError(RuntimeError):
    """Weights that are not there or must not be used; the message says what is wrong and what to
    do.
    """


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits; takes about 4 seconds per GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the progress bars of transformers, whose every refresh would become a line of a
    notebook.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@dataclass(frozen=True)
class WeightsFolder(CacheFolder):
    """Where a GGUF file's weights are kept.

    Args:
        name: the model's, for people.
        gguf_sha256: of the GGUF file, which determines the weights.
    """

    name: str
    gguf_sha256: str

    @property
    def root(self) -> Path:
        return cache_dir() / "llm"

    @property
    def key(self) -> str:
        return self.gguf_sha256[:12]

    @property
    def busy(self) -> str:
        return f"prepares the weights of {self.name}"

    @property
    def gguf(self) -> Path:
        """Where a downloaded GGUF file belongs."""
        return self.path / "model.gguf"

    @property
    def float32(self) -> Path:
        """The unpacked folder."""
        return self.path / "float32"

    def fault(self) -> str | None:
        """What is wrong with the unpacked folder; None if it is as it was made.

        Sizes are compared each time, and contents of files that were touched since they were last
        found intact.
        """
        list_of_files = self.float32 / "files.json"
        try:
            known = json.loads(list_of_files.read_text())
            if (known["format"], known["gguf_sha256"]) != (FORMAT, self.gguf_sha256):
                return "it was made from another file or by another version"
            touched = False
            for name, of in known["files"].items():
                now = (self.float32 / name).stat()
                if now.st_size != of["size"]:
                    return f"{name} has {now.st_size} bytes, not {of['size']}"
                if now.st_mtime_ns != of["mtime_ns"]:
                    if sha256(self.float32 / name) != of["sha256"]:
                        return f"{name} was altered: its checksum differs"
                    of["mtime_ns"], touched = now.st_mtime_ns, True
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "its list of files is damaged"
        if touched:  # moved or copied, but the same: remember that
            write_whole(list_of_files, json.dumps(known, indent=1).encode(), REMEDY)
        return None

    def ready(self) -> bool:
        """Whether the unpacked folder can be used. What is damaged is removed, and a line says so."""
        if not self.float32.exists():
            return False
        fault = self.fault()
        if fault:
            print(
                f"The unpacked weights of {self.name} are damaged ({fault}): removed, to be made "
                f"again.",
                flush=True,
            )
            shutil.rmtree(self.float32)
        return fault is None

    def unpack(self, gguf: Path) -> None:
        """Make the unpacked folder from a GGUF file whose hash has been checked.

        Needs about 8 bytes of memory and 4 of disk for each weight, and 1 to 2 minutes for half a
        billion of them.

        Raises:
            WeightsError: the file can't be read as a language model, the ``gguf`` package is
                missing, or the disk is full; nothing is left behind.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        print(f"Unpacking {self.name} to float32, once; later runs load it in seconds.", flush=True)
        temporary = self.path / ".float32.tmp"
        try:
            with no_bars():
                there = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
                tokenizer = AutoTokenizer.from_pretrained(**there)
                model = AutoModelForCausalLM.from_pretrained(**there, dtype=torch.float32)
                # What was unpacked is a plain model; with these it would be saved, and loaded, as a
                # quantised one.
                model.hf_quantizer = None
                if hasattr(model.config, "quantization_config"):
                    del model.config.quantization_config
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
            del model
            gc.collect()
            files = {file.name: file for file in sorted(temporary.iterdir())}
            listed = {
                name: {
                    "size": file.stat().st_size,
                    "mtime_ns": file.stat().st_mtime_ns,
                    "sha256": sha256(file),
                }
                for name, file in files.items()
            }
            record = {
                "format": FORMAT,
                "name": self.name,
                "gguf_sha256": self.gguf_sha256,
                "files": listed,
            }
            write_whole(temporary / "files.json", json.dumps(record, indent=1).encode(), REMEDY)
            temporary.replace(self.float32)
        except ImportError as error:
            raise WeightsError(f"{error}. Run: pip install gguf") from error
        except Exception as error:
            raise WeightsError(
                f"{gguf.name} of {self.name} could not be unpacked ({type(error).__name__}: "
                f"{error}). It must be the "
                f"GGUF file of a causal language model that transformers knows; if the disk is "
                f"full, {REMEDY}."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
