"""What a language model is made of: its parameters and hook points, and their shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd
import torch

from addlib.llm.prompts import encode

if TYPE_CHECKING:
    from addlib.llm.load import LLM

OTHER_BLOCK = re.compile(r"(^|\.)(layers|blocks|h)\.[1-9]")
"""In the name of what belongs to any block but the first."""


@torch.no_grad()
def inventory(llm: LLM, prompt: str) -> pd.DataFrame:
    """Names of parameters and hook points of the first block and around the blocks, by shape.

    The columns are ``kind``, ``shape`` and ``names``.

    Args:
        prompt: one, whose activations give the shapes.
    """
    _, cache = llm.bridge.run_with_cache(encode(llm.tokenizer, [prompt]).to(llm.device))
    parameters = llm.bridge.original_model.named_parameters()
    found = [("parameter", name.replace("_original_component.", ""), p) for name, p in parameters]
    found += [("hook point", name, value) for name, value in cache.items()]
    by_shape: dict[tuple[str, str], list[str]] = {}
    for kind, name, value in found:
        if not OTHER_BLOCK.search(name):
            by_shape.setdefault((kind, str(tuple(value.shape))), []).append(name)
    rows = [(kind, shape, ", ".join(names)) for (kind, shape), names in by_shape.items()]
    return pd.DataFrame(rows, columns=["kind", "shape", "names"])
