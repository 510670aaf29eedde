"""Maps over two digits against values that follow from the digits."""

import pytest
import torch

from addlib.analysis.digit_grid import digit_grid, explained_by, over_grid
from addlib.tasks.addition import AdditionTask


def test_cells_of_the_grid_hold_their_two_digits():
    questions = digit_grid(AdditionTask(3, base=4), 1, 5, torch.Generator().manual_seed(0))
    assert len(questions) == 80
    number = 10 * questions.x[:, 1] + questions.y[:, 1]
    digits = torch.arange(4)
    assert torch.equal(over_grid(number.double(), 4), (10 * digits[:, None] + digits).double())


def test_what_groups_explain():
    """Of x + y over a grid, x explains a half; of x all."""
    digits = torch.arange(4)
    rows = digits[:, None].expand(4, 4)
    assert explained_by(rows.double(), rows) == pytest.approx(1)
    assert explained_by((rows + digits).double(), rows) == pytest.approx(0.5)
