"""Small tables of scores and values against the library's own residual stream."""

from dataclasses import replace

import pytest
import torch

from addlib.analysis.activations import answer_activations
from addlib.models.addition import ModelConfig, build_model
from addlib.models.attention_tables import AttentionTables
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import nine_rich_questions


def shaken(task, heads=3, layers=1):
    model = build_model(ModelConfig(layers, heads, 48), task, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in weights(model).values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize("order", ["msd", "lsd"])
@pytest.mark.parametrize(("n_digits", "base", "heads"), [(2, 10, 2), (5, 10, 3), (3, 2, 4)])
def test_tables_give_the_librarys_residual_stream(n_digits, base, heads, order):
    task = AdditionTask(n_digits, base, answer_order=order)
    model = shaken(task, heads)
    asked = nine_rich_questions(task, 50, torch.Generator().manual_seed(3))
    name = "blocks.0.hook_resid_mid"
    expected = answer_activations(model, [name], asked)[name]
    directions = torch.randn(expected.shape[-1], 2, generator=torch.Generator().manual_seed(4))
    for k in range(task.n_answer):
        tables = AttentionTables.of(model, task, k)
        assert (tables(asked, batch_size=16) - expected[:, k]).abs().max() < 1e-4
        plane = tables.along(directions)(asked)
        assert (plane - expected[:, k] @ directions).abs().max() < 1e-4


def test_rows_are_those_of_the_tokens_that_can_stand_there():
    task = AdditionTask(2)
    tables = AttentionTables.of(shaken(task), task, 1)
    rows = [tables.rows_of(p) for p in range(len(tables.first))]
    sizes = [row.stop - row.start for row in rows]
    assert sizes == [10, 10, 1, 10, 10, 1, 10]
    assert [row.start for row in rows[1:]] == [row.stop for row in rows[:-1]]
    assert rows[-1].stop == tables.scores.shape[2]


def test_scores_and_values_by_digit_are_those_of_their_rows():
    task = AdditionTask(3)
    tables = AttentionTables.of(shaken(task), task, 2)
    scores, values = tables.by_digit(1)
    assert scores.shape == (3, 2, 10)
    row = tables.rows_of(5).start + 7  # D'1 of D2 D1 D0 + D'2 D'1 D'0
    assert torch.allclose(scores[:, 1, 7], tables.scores[:, :, row].mean(1))
    assert torch.equal(values[:, 1, 7], tables.values[:, row])


def test_the_rule_is_found_where_scores_follow_it_and_sees_one_pair_alone():
    task = AdditionTask(3)
    tables = AttentionTables.of(shaken(task), task, 2)
    far = (torch.arange(10) - 4.5).abs()
    scores = torch.full_like(tables.scores, -50.0)  # other positions get nothing
    for head, column in enumerate((2, 1, 0)):
        for line, position in enumerate((2 - column, 6 - column)):
            scores[head, :, tables.rows_of(position)] = (head - 1) * far - 0.3 * line
    planted = replace(tables, scores=scores)
    asked = nine_rich_questions(task, 50, torch.Generator().manual_seed(3))
    assert torch.allclose(planted.by_rule((2, 1, 0))(asked), planted(asked), atol=1e-4)
    other = replace(planted, scores=scores + 5 * torch.randn(scores.shape[2]).sign())
    assert not torch.allclose(other.by_rule((2, 1, 0))(asked), planted(asked), atol=1e-2)


def test_two_layers_are_refused():
    task = AdditionTask(2)
    with pytest.raises(ValueError, match="n_layers = 2"):
        AttentionTables.of(shaken(task, layers=2), task, 1)
