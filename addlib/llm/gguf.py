"""Quantised GGUF files, unpacked to float32 once and kept as a folder that loads in seconds.

A model lives in ``<cache>/llm/<name>-<start of the GGUF's SHA-256>/``: ``float32/`` is the unpacked
Hugging Face folder, sealed (:mod:`addlib.store`); ``model.gguf`` is there if it was downloaded
(:mod:`addlib.llm.packages`). What is damaged is removed and made again.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addlib.device import out_of_memory
from addlib.store import DISK_REMEDY, CacheFolder, broken_seal, cache_dir, sealed

FORMAT = "addlib-llm-1"


class WeightsError(RuntimeError):
    """Weights that are missing or must not be used; the message says what is wrong and what to do."""


@contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars, whose every refresh would be a line of a notebook."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
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
    def path(self) -> Path:
        return cache_dir() / "llm" / f"{self.name}-{self.gguf_sha256[:12]}"

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

    @property
    def marks(self) -> dict[str, str]:
        """What the unpacked folder's seal says it was made from."""
        return {"format": FORMAT, "gguf_sha256": self.gguf_sha256}

    def ready(self) -> bool:
        """Whether the unpacked folder can be used; a damaged one is removed, and a line says so."""
        if not self.float32.exists():
            return False
        fault = broken_seal(self.float32, self.marks)
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
        print(f"Unpacking {self.name} to float32, once; later runs load it in seconds.", flush=True)
        try:
            with no_bars(), sealed(self.float32, self.marks) as folder:
                _save_unpacked(gguf, folder)
                gc.collect()
        except ImportError as error:
            raise WeightsError(f"{error}. Run: pip install gguf") from error
        except Exception as error:
            if out_of_memory(error):
                raise
            raise WeightsError(
                f"{gguf.name} of {self.name} could not be unpacked ({type(error).__name__}: "
                f"{error}). It must be the GGUF file of a causal language model that transformers "
                f"knows; if the disk is full, {DISK_REMEDY}."
            ) from error


def _save_unpacked(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The unpacked model is a plain one; with these it would be saved as a quantised one.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
