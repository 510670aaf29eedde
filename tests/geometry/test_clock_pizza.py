"""A planted clock and a planted pizza, and three models that others trained."""

import importlib
import math
import os
from pathlib import Path

import pytest
import torch

from addlib.claims import stored
from addlib.geometry.clock_pizza import (
    circularity,
    distance_irrelevance,
    gradient_cosines,
    height_by_angle,
    some_triples,
)

P, KEYS = 23, (3, 5)

STUDIES = Path(__file__).parents[2] / "studies"


def embedding():
    """Two circles: cos and sin of each key frequency, (p, 4)."""
    turns = 2 * math.pi * torch.tensor(KEYS) * torch.arange(P)[:, None].double() / P
    return torch.cat([turns.cos(), turns.sin()], 1)


def read_out(cosines, sines, heights=1.0):
    """Logits of waves of a + b, (rows, 2) each; heights of each answer."""
    turns = 2 * math.pi * torch.tensor(KEYS)[:, None] * torch.arange(P).double() / P
    return heights * (cosines @ turns.cos() + sines @ turns.sin())


def clock(first, second, heights=1.0):
    """Angles are added by multiplication."""
    (ca, sa), (cb, sb) = first.split(2, 1), second.split(2, 1)
    return read_out(ca * cb - sa * sb, sa * cb + ca * sb, heights)


def pizza(first, second):
    """The midpoint's direction, doubled, weighted by how far out it lies."""
    x, y = ((first + second) / 2).split(2, 1)
    out = (x.square() + y.square()).sqrt()
    return read_out((x.square() - y.square()) / out, 2 * x * y / out)


def all_logits(answer, *arguments):
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    E = embedding()
    return answer(E[pairs[:, 0]], E[pairs[:, 1]], *arguments).unflatten(0, (P, P))


def symmetricity(*arguments):
    return gradient_cosines(*arguments).mean().item()


def all_triples():
    return torch.cartesian_prod(*[torch.arange(P)] * 3)


def test_both_ways_add():
    for answer in (clock, pizza):
        a = torch.arange(P)
        assert torch.equal(all_logits(answer).argmax(-1), (a[:, None] + a) % P)


def test_a_planted_pizza():
    E = embedding()
    assert distance_irrelevance(all_logits(pizza)) == pytest.approx(0, abs=1e-6)
    assert symmetricity(pizza, E, E, all_triples()) == pytest.approx(1)
    sizes = torch.tensor([1.0, 0.5, 1.0, 0.5])  # equal circles have no components of their own
    assert circularity(E * sizes) == pytest.approx(1)


def test_a_planted_clock():
    """Its right logits differ between sums only; its gradients stand at all angles."""
    E = embedding()
    heights = 1 + torch.rand(P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance_irrelevance(all_logits(clock, heights)) == pytest.approx(1)
    assert symmetricity(clock, E, E, all_triples()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("frequency", KEYS)
def test_heights_by_the_angle_between_the_numbers(frequency):
    angles = math.pi * (torch.arange(P).double() - P // 2) / P
    of_a_pizza = angles.cos().abs() / angles.cos().abs().mean()
    assert torch.allclose(height_by_angle(all_logits(pizza), frequency), of_a_pizza)
    level = torch.ones(P, dtype=torch.float64)
    assert torch.allclose(height_by_angle(all_logits(clock), frequency), level)


def test_gradients_belong_to_their_place():
    """With another embedding for the second number a pizza is a pizza still."""
    E = embedding()
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[
        0
    ].double()
    turned = symmetricity(lambda x, y: pizza(x, y @ turn.T), E, E @ turn, all_triples())
    assert turned < 0.9
    assert symmetricity(pizza, E, E.clone(), some_triples(P)) == pytest.approx(1)


def test_an_embedding_without_order_is_no_circle():
    W_E = torch.randn(P, 16, generator=torch.Generator().manual_seed(2))
    assert circularity(W_E) < 0.6


def test_triples_are_the_same_in_each_run():
    triples = some_triples(59)
    assert triples.shape == (100, 3)
    assert int(triples.min()) >= 0
    assert int(triples.max()) < 59
    assert len(triples.unique(dim=0)) == 100
    assert torch.equal(triples, some_triples(59))


# ------------------------------------------------------------------ other people's models
PUBLISHED = {
    "p99zdpze5l": (0.1717, 0.9937, 0.9978),
    "18c9ev5v5p": (0.1739, 0.9974, 0.9998),
    "l8k1hzciux": (0.8483, 0.3336, 0.9989),
}
"""Distance irrelevance, gradient symmetricity and circularity."""

MEASURES = ("distance irrelevance", "gradient symmetricity", "circularity")


def test_the_record_has_the_published_values():
    record = stored.read("clock_pizza")
    assert "MIT License" in record["source"]
    for row in record["models"]:
        values = [row[measure] for measure in MEASURES]
        assert values == pytest.approx(PUBLISHED[row["name"]], abs=0.002)
        assert row["right"] == 1
    assert {row["name"] for row in record["models"]} == set(PUBLISHED)


@pytest.mark.skipif("ADDLIB_PIZZA" not in os.environ, reason="ADDLIB_PIZZA names no folder")
def test_the_record_is_that_of_their_models(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    study = importlib.import_module("clock_pizza")
    measured = study.measure_all(Path(os.environ["ADDLIB_PIZZA"]))
    for now, then in zip(measured, stored.read("clock_pizza")["models"], strict=True):
        assert now.pop("name") == then.pop("name")
        assert now == pytest.approx(then, abs=1e-9)
