"""Sight apart from guess: what always guesses the same sees nothing."""

import pytest
import torch

from addlib.analysis import sight as module
from addlib.analysis.answers import Answers
from addlib.analysis.sight import says_carry, sight
from addlib.tasks.addition import AdditionTask
from addlib.tasks.subtasks import look_back

TASK = AdditionTask(5)


def of_observer(monkeypatch, below, guess):
    """What an observer of so many pairs below says of cascades and twins."""

    def observed(model, questions, hooks, batch_size=None):
        assert (hooks == [len(questions)]) == (batch_size == 300)
        return Answers(questions, look_back(questions, below, guess), None)

    monkeypatch.setattr(module, "answer", observed)
    drawn = torch.Generator().manual_seed(0)
    return lambda down, *change: says_carry(None, TASK, 4, down, 300, drawn, *change)


@pytest.mark.parametrize("guess", [False, True])
def test_an_observer_of_three_pairs_sees_two_below_and_guesses_further_down(monkeypatch, guess):
    said = of_observer(monkeypatch, 2, guess)
    for down in (1, 2):
        assert said(down)[0].all()
        assert not said(down)[1].any()
        assert sight(said(down)) > 5
        assert sight(said(down, len)) > 5, "both are asked under a change, each in one batch"
    for down in (3, 4):
        assert (said(down) == guess).all()
        assert sight(said(down)) == 0
