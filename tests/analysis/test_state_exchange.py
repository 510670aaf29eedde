"""What an exchange of states foretells, and that it changes what it should and nothing else."""

import torch

from addlib.analysis.answers import answer, write_out
from addlib.analysis.state_exchange import (
    as_foretold,
    sources,
    state_of,
    with_other_states,
    with_state,
    written_with,
)
from addlib.models.addition import ModelConfig, build_model
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import nine_rich_questions

TASK = AdditionTask(3)


def test_a_state_is_told_to_the_digits_above_and_not_to_its_own():
    asked = Questions.of(TASK, [(47, 85), (455, 545), (455, 545)])
    assert with_state(asked, 0, torch.tensor([0, 0, 0])).tolist() == [
        [2, 2, 1, 0],
        [0, 9, 9, 0],
        [0, 9, 9, 0],
    ]
    assert torch.equal(with_state(asked, 1, state_of(asked, 1)), asked.answer)
    cut = with_state(asked, 1, torch.tensor([0, 0, 2]))
    assert cut.tolist() == [[2, 3, 0, 0], [0, 0, 9, 0], [0, 0, 0, 1]]


def test_a_source_has_the_digit_and_the_state_that_were_asked_for():
    generator = torch.Generator().manual_seed(0)
    rest = nine_rich_questions(TASK, 500, generator)
    lower = torch.randint(1, 9, (500,), generator=generator)  # of 0 and 9 no D makes each state
    state = torch.randint(3, (500,), generator=generator)
    found = sources(rest, 1, lower, state, generator)
    assert torch.equal(found.y[:, 1], lower)
    assert torch.equal(state_of(found, 1), state)
    for j in (0, 2):
        assert torch.equal(found.x[:, j], rest.x[:, j])
        assert torch.equal(found.y[:, j], rest.y[:, j])


def test_an_exchange_with_itself_changes_nothing_and_at_all_of_equals_with_another_does():
    generator = torch.Generator().manual_seed(0)
    model = build_model(ModelConfig(2, 3, 48), TASK, seed=1)
    asked, other = (nine_rich_questions(TASK, 60, generator) for _ in range(2))
    before = write_out(model, asked)
    equals = TASK.answer_positions.start
    assert torch.equal(written_with(model, asked, asked, equals), before)
    assert not torch.equal(written_with(model, asked, other, equals), before)


def test_the_first_digit_that_should_change_is_told_whatever_comes_after_it():
    generator = torch.Generator().manual_seed(0)
    model = build_model(ModelConfig(2, 3, 48), TASK, seed=1)
    asked = nine_rich_questions(TASK, 60, generator)
    given = answer(model, asked).digits
    foretold = asked.answer.clone()
    foretold[:, 1] = given[:, 1]  # what the model says anyway, with nothing exchanged
    foretold[:, 0] = -1
    told, first = as_foretold(model, asked, 0, asked, foretold)
    changes = foretold[:, 1] != asked.answer[:, 1]
    assert torch.equal(first, torch.where(changes, 1, 0))
    assert torch.equal(told, changes)
    assert (as_foretold(model, asked, 0, asked, asked.answer)[1] == -1).all()


def test_other_states_are_foretold_where_they_are_others():
    generator = torch.Generator().manual_seed(0)
    asked = nine_rich_questions(TASK, 300, generator)
    source, foretold = with_other_states(asked, 1, generator)
    assert torch.equal(source.y, asked.y)
    assert torch.equal(foretold[:, :2], asked.answer[:, :2])
    assert (foretold != asked.answer).any(1).float().mean() > 0.5
