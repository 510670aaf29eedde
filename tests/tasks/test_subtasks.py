"""The variables of an answer digit, against sums of whole numbers."""

import itertools

import pytest
import torch

from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions
from addlib.tasks.subtasks import (
    MISTAKES,
    base_sum,
    digit_of_key,
    key,
    look_back,
    mistakes,
    second_pair_key,
    tri_state,
    tri_state_of_second,
    with_pair_of,
)


def every_question(task):
    values = range(task.base**task.n_digits)
    return Questions.of(task, list(itertools.product(values, values)))


@pytest.mark.parametrize(("n_digits", "base"), [(1, 2), (2, 4), (3, 3), (2, 10)])
def test_the_key_determines_every_answer_digit(n_digits, base):
    questions = every_question(AdditionTask(n_digits, base))
    assert torch.equal(digit_of_key(key(questions), base), questions.answer)
    assert key(questions).min() >= 0
    assert key(questions).max() < 6 * base
    assert torch.equal(key(questions) % (3 * base), key(questions, below=False))


def test_variables_of_one_sum_by_hand():
    # 7 + 5 carries, 4 + 5 = 9 hands it on, 2 + 6 + 1 = 9
    questions = Questions.of(AdditionTask(3), [(247, 655)])
    assert base_sum(questions).tolist() == [[2, 9, 8, 0]]
    assert tri_state(questions).tolist() == [[0, 1, 2, 0]]
    assert key(questions).tolist() == [[2, 9 + 10, 8 + 20 + 30, 0 + 0 + 30]]
    assert tri_state_of_second(questions).tolist() == [[0, 0, 1, 2]]
    assert second_pair_key(questions).tolist() == [[2, 9 + 10, 8 + 20 + 30, 0 + 0 + 60]]
    assert look_back(questions, 0).tolist() == [[2, 9, 8, 0]]
    assert look_back(questions, 1).tolist() == [[2, 0, 8, 0]]
    assert questions.answer.tolist() == [[2, 0, 9, 0]]


def test_mistakes_of_one_sum_by_hand():
    questions = Questions.of(AdditionTask(3), [(247, 655)] * 3)  # 902
    answers = torch.tensor([[2, 0, 9, 0], [2, 9, 8, 0], [3, 1, 9, 1]])
    named = [[MISTAKES[code] for code in row] for row in mistakes(questions, answers).tolist()]
    assert named[0] == ["right"] * 4
    assert named[1] == ["right", "carry ignored", "cascade ignored", "right"]
    assert named[2] == ["carry invented", "another digit", "right", "carry invented"]


def test_without_undetermined_pairs_looking_one_pair_down_is_exact():
    questions = uniform_questions(AdditionTask(5), 3000, torch.Generator().manual_seed(0))
    plain = ~questions.ms9.any(1)
    assert torch.equal(look_back(questions, 1)[plain], questions.answer[plain])
    assert torch.equal(
        look_back(questions, 0)[questions.question_class == 0],
        questions.answer[questions.question_class == 0],
    )


def test_with_pair_of_adds_the_mixed_numbers():
    task = AdditionTask(3)
    base, source = (
        uniform_questions(task, 50, torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    for offset in (0, -1, -2):
        digits = with_pair_of(base, source, offset)
        for i in range(50):
            for k in range(4):
                column = k + offset
                x, y = (int(task.value(side[i : i + 1])) for side in (base.x, base.y))
                if 0 <= column < 3:
                    x += (int(source.x[i, column]) - int(base.x[i, column])) * 10**column
                    y += (int(source.y[i, column]) - int(base.y[i, column])) * 10**column
                assert digits[i, k] == (x + y) // 10**k % 10
        assert torch.equal(with_pair_of(base, base, offset), base.answer)
    mixed = with_pair_of(base, source, [0, None, -2, -1])
    single = {offset: with_pair_of(base, source, offset) for offset in (0, -1, -2)}
    assert torch.equal(
        mixed,
        torch.stack([single[0][:, 0], base.answer[:, 1], single[-2][:, 2], single[-1][:, 3]], 1),
    )


def test_looking_back_far_enough_gives_the_sum():
    task = AdditionTask(3, 4)
    questions = Questions.of(task, list(itertools.product(range(64), repeat=2)))
    assert torch.equal(look_back(questions, 0), base_sum(questions))
    assert torch.equal(look_back(questions, 3), questions.answer)
    wrong = [
        (look_back(questions, depth) != questions.answer).any(1).double().mean()
        for depth in range(4)
    ]
    assert wrong[0] > wrong[1] > wrong[2] > wrong[3] == 0
    one = Questions.of(AdditionTask(3), [(47, 58)])
    assert look_back(one, 0).tolist() == [[5, 9, 0, 0]]
    assert look_back(one, 1).tolist() == [[5, 0, 0, 0]]
    assert look_back(one, 2).tolist() == [[5, 0, 1, 0]]
