"""Parts of a network replaced: what is put where, and what comes out."""

import torch

from addlib.analysis.carry_parts import corners, outcome, replaced
from addlib.analysis.carry_plane import CarrySample, cell, fit_axes, partners
from addlib.models.addition import ModelConfig, build_model
from addlib.models.attention_tables import AttentionTables
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import nine_rich_questions

TASK = AdditionTask(4)

K = 3


def of_a_model():
    model = build_model(ModelConfig(width=48), TASK, seed=1)
    asked = nine_rich_questions(TASK, 400, torch.Generator().manual_seed(0))
    tables = AttentionTables.of(model, TASK, K)
    stream = tables(asked)
    sample = CarrySample(asked, K, stream, torch.zeros(len(asked), dtype=torch.int64))
    return model, tables, sample, fit_axes(stream, asked, K)


def test_each_part_is_replaced_and_no_more_than_it():
    _, tables, sample, axes = of_a_model()
    generator = torch.Generator().manual_seed(1)
    points, told = torch.randn(2, len(sample.own), 2, generator=generator)
    partner = partners(sample.groups, generator)
    found = replaced(sample, tables, axes, (3, 2, 1), points, told, partner)
    rule = tables.by_rule((3, 2, 1))(sample.questions)
    outside = torch.eye(48) - axes.plane @ axes.plane.T
    assert torch.equal(found["none"], sample.resid_mid)
    assert torch.allclose(found["attention by the rule"], rule, atol=1e-5)
    assert torch.equal(found["everything, resampled"], sample.resid_mid[partner])
    for name, point, rest in (
        ("and the point by tables", points, rule),
        ("and the carry by the program", told, rule),
        ("all but the tables' point, resampled", points, sample.resid_mid[partner]),
    ):
        placed_at = axes.rest(found[name], sample.own) @ axes.plane
        assert torch.allclose(placed_at, point, atol=1e-4)
        assert torch.allclose(found[name] @ outside, rest @ outside, atol=1e-4)


def test_the_outcome_is_that_of_the_networks_rest():
    model, _, sample, _ = of_a_model()
    found = outcome(model, sample, sample.resid_mid)
    again = CarrySample(sample.questions, K, sample.resid_mid, torch.zeros_like(sample.digits))
    assert 2 < found.loss < 3  # an untrained model is unsure of ten digits
    assert found.right < 0.3
    assert torch.equal(found.unchanged, outcome(model, again, sample.resid_mid).unchanged)


def test_calls_go_to_the_corners_that_settle_them():
    asked = nine_rich_questions(TASK, 400, torch.Generator().manual_seed(0))
    cells = cell(asked, K)
    points = torch.stack([cells // 3, cells % 3], 1).float()
    found = corners(points, cells, torch.tensor([True, False]))
    assert found.tolist() == [[2, 2], [0, 0]]
