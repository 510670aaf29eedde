"""Clock or pizza, on three models that others trained: what chapter 11 measures on its own.

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
from collections.abc import Callable, Mapping, Sequence
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
from addlib.geometry.fourier import frequency_part, key_frequencies, neuron_frequencies
from addlib.geometry.progress_measures import pair_sums
from addlib.geometry.quadrature import Cluster, doubled_in_step, product_share

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
    def load(cls, folder: Path, name: str) -> Published:
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

    def _layer(self, name: str) -> Tensor:
        return self.weights[f"blocks.0.{name}"]

    def _after_attention(self, first: Tensor, second: Tensor) -> Tensor:
        """The residual stream that the MLP reads at the second token, (rows, d)."""
        x = torch.stack([first, second], 1) + self.weights["pos_embed.W_pos"]  # (rows, 2, d)
        q, k, v = (torch.einsum("hed,rpd->rhpe", self._layer(f"attn.W_{n}"), x) for n in "QKV")
        scores = torch.einsum("rhqe,rhke->rhqk", q, k) / q.shape[-1] ** 0.5
        pattern = self.attention * scores.softmax(-1) + (1 - self.attention)
        z = torch.einsum("rhqk,rhke->rqhe", pattern, v).flatten(2)
        return (x + z @ self._layer("attn.W_O").T)[:, -1]

    def read(self, first: Tensor, second: Tensor) -> Tensor:
        """What the neurons read, before their ReLU, (rows, neuron)."""
        mid = self._after_attention(first, second)
        return mid @ self._layer("mlp.W_in").T + self._layer("mlp.b_in")

    def answer(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits of the p answers for embedded numbers, (rows, p)."""
        hidden = self.read(first, second).relu()
        x = self._after_attention(first, second) + hidden @ self._layer("mlp.W_out").T
        return ((x + self._layer("mlp.b_out")) @ self.weights["unembed.W_U"])[:, : self.p]

    @property
    def output_weights(self) -> Tensor:
        """From the neurons to the answers, (p, neuron)."""
        return (self._layer("mlp.W_out").T @ self.weights["unembed.W_U"])[:, : self.p].T

    def of_all_pairs(
        self, function: Callable[[Tensor, Tensor], Tensor], without: Sequence[int]
    ) -> Tensor:
        """`answer` or `read` for all pairs, (p, p, …), if the embedding lacks these frequencies."""
        numbers = torch.arange(self.p)
        a, b = torch.cartesian_prod(numbers, numbers).T
        first, second = (E - frequency_part(E, without) for E in (self.first, self.second))
        return function(first[a], second[b]).unflatten(0, (self.p, self.p))

    def measured(self) -> dict[str, float]:
        """The three published measures, the share of all pairs that it gets right, and its neurons."""
        p = self.p
        logits = self.of_all_pairs(self.answer, [])
        right = logits.flatten(0, 1).argmax(1) == pair_sums(p)
        cosines = gradient_cosines(self.answer, self.first, self.second, some_triples(p))
        return {
            "right": right.double().mean().item(),
            "distance irrelevance": distance_irrelevance(logits),
            "gradient symmetricity": cosines.mean().item(),
            "circularity": circularity(self.first),
            **self.neurons(),
        }

    def neurons(self) -> dict[str, float]:
        """What the neurons of the key frequencies read and write; smallest means over clusters."""
        pre, W_L = self.of_all_pairs(self.read, []), self.output_weights
        keys = key_frequencies(W_L, least=0.01)
        clusters = neuron_frequencies(pre.relu()).clusters(0.85)
        matches, steps = [], []
        for k in keys:
            members = clusters[k]
            matches.append(Cluster.of(pre[..., members], W_L[:, members], k).phase_match.mean())
            step, size = doubled_in_step(pre[..., members].mean(1), k)
            steps.append((step * size).sum() / size.sum())
        doubled = [min(2 * k % self.p, -2 * k % self.p) for k in keys]
        cut = self.of_all_pairs(self.answer, doubled)
        return {
            "key frequencies": len(keys),
            "products in what neurons read": product_share(pre),
            "phases add": min(matches).item(),
            "doubled waves in step": min(steps).item(),
            "distance irrelevance without doubled": distance_irrelevance(cut),
        }


def measure_all(folder: Path) -> list[dict[str, Any]]:
    """A row for each of the models."""
    models = {name: Published.load(folder, name) for name in NAMES}
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
