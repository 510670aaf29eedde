"""Settings are counted once, the surest first."""

import torch

from addlib.analysis.carry_plane import CarrySample
from addlib.analysis.foretelling import by_sureness, mistakes_called, one_each, surest_wrong
from addlib.tasks.addition import AdditionTask, Questions

MISTAKEN = torch.tensor([True, False, True, True, False, False, False, True])

DISTANCE = torch.tensor([0.4, 9.0, 1.0, 2.5, 9.0, 9.0, 9.0, 0.1])


def test_of_each_setting_called_wrong_the_surest_sum_is_taken():
    assert surest_wrong(MISTAKEN, DISTANCE).tolist() == [3, 0, 7]
    assert surest_wrong(MISTAKEN, DISTANCE, most=1).tolist() == [3]
    assert surest_wrong(~MISTAKEN & MISTAKEN, DISTANCE).tolist() == []


def test_each_distance_is_in_one_class():
    classes = torch.stack(by_sureness(torch.tensor([0.1, 0.5, 0.6, 1.5, 2.5, 40.0])))
    assert classes.sum(0).tolist() == [1] * 6
    assert classes.sum(1).tolist() == [2, 1, 1, 1, 1]


def test_a_setting_is_asked_once_at_most_and_only_where_wanted():
    mask = torch.rand(2000, generator=torch.Generator().manual_seed(0)) < 0.7
    chosen = one_each(mask, torch.Generator().manual_seed(1), most=1000)
    assert mask[chosen].all()
    assert len((chosen // 2).unique()) == len(chosen)
    assert 600 < len(chosen) < 800
    assert len(one_each(mask, torch.Generator().manual_seed(1), most=50)) == 50


def test_wrong_digits_are_listed_with_those_who_call_them():
    asked = Questions.of(AdditionTask(3), [(255, 245), (123, 456), (299, 201)])
    # A2: 5, 5 and 5 are right; the first carry is lost, the third is there
    sample = CarrySample(asked, 2, torch.zeros(3, 1), torch.tensor([4, 5, 5]))
    margins = {"u": torch.tensor([-1.0, -2.0, 3.0]), "tables": torch.tensor([0.5, -2.0, 3.0])}
    found = mistakes_called(sample, margins)
    assert found.to_dict("records") == [
        {
            "sum": "255+245",
            "longest cascade": 1,
            "digit": "A2",
            "model": 4,
            "two below": "5 + 5",
            "u": -1.0,
            "by u": True,
            "tables": 0.5,
            "by tables": False,
        }
    ]
