"""Clock or pizza, on three models that others trained: the measures of chapter 11 beside theirs.

    ADDLIB_PIZZA=folder python studies/clock_pizza.py    # seconds

The record is addlib/data/clock_pizza.json. The folder holds three of the models that are published
with "The Clock and the Pizza" (Zhong, Liu, Tegmark & Andreas, NeurIPS 2023; code and models under
the MIT License, Copyright (c) 2023 Ziqian Zhong, https://github.com/fjzzq2002/pizza):
model_NAME.pt and config_NAME.json for each of NAMES. The models themselves are not in this
repository.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addlib.claims import stored
from addlib.device import hardware
from addlib.geometry.clock_pizza import (
    circularity,
    distance_irrelevance,
    gradient_cosines,
    some_triples,
)

FOLDER = "ADDLIB_PIZZA"

NAMES = ("p99zdpze5l", "18c9ev5v5p", "l8k1hzciux")

SOURCE = "https://github.com/fjzzq2002/pizza, MIT License, Copyright (c) 2023 Ziqian Zhong"


@dataclass(frozen=True)
class Published:
    """One of their models: two tokens, no "=", and the answer at the second.

    One layer with ReLU, biases in the MLP, no normalisation and no causal mask. Attention is mixed
    with an even pattern of weight 1 for each token: ``attention`` is the share of the softmax.
    """

    weights: Mapping[str, Tensor]
    attention: float
    p: int

    @classmethod
    def read(cls, folder: Path, name: str) -> Published:
        """The model of this name."""
        config = json.loads((folder / f"config_{name}.json").read_text(encoding="utf-8"))
        file = folder / f"model_{name}.pt"
        weights = torch.load(file, map_location="cpu", weights_only=True)
        in_float64 = {name: value.double() for name, value in weights.items()}
        return cls(in_float64, float(config["attn_coeff"]), config["C"])

    @property
    def first(self) -> Tensor:
        """Embeddings of the numbers in the first place, (p, d)."""
        return self.weights["embed.W_E"].T[: self.p]

    @property
    def second(self) -> Tensor:
        """Those in the second place: the same, or the p tokens that follow."""
        return self.weights["embed.W_E"].T[-self.p :]

    def answer(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits of the p answers for embedded numbers, (rows, p)."""
        w = {name.removeprefix("blocks.0."): value for name, value in self.weights.items()}
        x = torch.stack([first, second], 1) + w["pos_embed.W_pos"]  # (rows, 2, d)
        q, k, v = (torch.einsum("hed,rpd->rhpe", w[f"attn.W_{n}"], x) for n in "QKV")
        scores = torch.einsum("rhqe,rhke->rhqk", q, k) / q.shape[-1] ** 0.5
        pattern = self.attention * scores.softmax(-1) + (1 - self.attention)
        z = torch.einsum("rhqk,rhke->rqhe", pattern, v).flatten(2)
        x = (x + z @ w["attn.W_O"].T)[:, -1]
        hidden = (x @ w["mlp.W_in"].T + w["mlp.b_in"]).relu()
        x = x + hidden @ w["mlp.W_out"].T + w["mlp.b_out"]
        return (x @ w["unembed.W_U"])[:, : self.p]

    def measured(self) -> dict[str, float]:
        """The three measures, and the share of all pairs that it gets right."""
        p = self.p
        numbers = torch.arange(p)
        pairs = torch.cartesian_prod(numbers, numbers)
        logits = self.answer(self.first[pairs[:, 0]], self.second[pairs[:, 1]])
        right = logits.argmax(1) == pairs.sum(1) % p
        triples = some_triples(p)
        cosines = gradient_cosines(self.answer, self.first, self.second, triples)
        return {
            "right": right.double().mean().item(),
            "distance irrelevance": distance_irrelevance(logits.unflatten(0, (p, p))),
            "gradient symmetricity": cosines.mean().item(),
            "circularity": circularity(self.first),
        }


def measure_all(folder: Path) -> list[dict[str, Any]]:
    """A row for each of the models."""
    models = {name: Published.read(folder, name) for name in NAMES}
    return [
        {"name": name, "p": of.p, "attention": of.attention, **of.measured()}
        for name, of in models.items()
    ]


def main() -> None:
    """Command line."""
    if FOLDER not in os.environ:
        raise SystemExit(f"set {FOLDER} to the folder with the models of {SOURCE}")
    models = measure_all(Path(os.environ[FOLDER]))
    content = {"source": SOURCE, "models": models}
    device = hardware(torch.device("cpu"))
    print(stored.write("clock_pizza", "python studies/clock_pizza.py", device, content))


if __name__ == "__main__":
    main()
