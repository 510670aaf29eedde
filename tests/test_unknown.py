"""What a model's file does not tell: any use is refused, and a notebook goes on without it."""

import math

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from addlib.reading import filled
from addlib.unknown import LeftOut, Unknown

USES = {
    "attribute": lambda value: value.loss,
    "call": lambda value: value(1),
    "item": lambda value: value[0],
    "sum": lambda value: 1 + value,
    "ratio": lambda value: value / 2,
    "comparison": lambda value: value > 1,
    "reversed comparison": lambda value: 0 < value < 1,
    "condition": lambda value: 1 if value else 2,
    "loop": lambda value: list(value),
    "range": lambda value: range(value),
    "float": lambda value: math.sqrt(value),
    "array": lambda value: np.array(value).mean(),
    "text": lambda value: f"{value}",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_use_says_why_it_is_not_known(use):
    with pytest.raises(LeftOut, match="nobody wrote it down"):
        use(Unknown("nobody wrote it down"))


def test_a_text_shows_words_in_its_place_if_there_are_any():
    names = {"steps": Unknown("nobody knows", "an unknown number of"), "loss": Unknown("lost")}
    assert filled("after {steps:,} steps", names) == "after an unknown number of steps"
    with pytest.raises(LeftOut, match="lost"):
        filled("{loss:.2f}", names)
    with pytest.raises(LeftOut, match="nobody knows"):
        filled("{steps / 2}", names)


CELLS = [
    "from addlib.notebook import setup\nfrom addlib.unknown import Unknown, leave_out\nsetup()",
    "leave_out()\nhistory = Unknown('no history')\nclaims = None",
    "before = 1\nfirst = history.first\nafter = before + 1\nsecond = first + 1\nafter",
    "%%reading\nAfter is {after}.",
    "%%reading\nFirst is {first}.",
    "kept = []\nfor step in history.steps:\n    kept.append(step)",
    "len(kept)",
    "def twice(x):\n    local = 2 * x\n    return local\n\n\ntwice([1, 2][3])",
    "twice(before)",
    "import math\nmath.pi;",
    "by_name = {'a': []}\nfor step in history:\n    by_name['a'].append(step)",
    "import torch\ntorch.stack(kept)",
    "by_name['a'][0]",
    "assert before > 1",
]


def test_a_notebook_passes_over_what_it_lacks_and_goes_on():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    NotebookClient(notebook, kernel_name="python3").execute()

    def shown(number: int) -> list[str]:
        outputs = notebook.cells[number].outputs
        return [output.data["text/plain"] for output in outputs if "data" in output]

    left_out = "Left out: no history."
    assert shown(2) == [left_out, "2"]  # each reason once, and the last line's value
    assert shown(3) == ["After is 2."]
    assert shown(4) == [left_out]
    assert shown(5) == [left_out]
    assert shown(6) == [left_out]  # a list that was half filled is not used
    another = "Left out: this step was written for models of another shape"
    assert shown(7) == [f"{another} (IndexError: list index out of range)."]
    assert shown(8) == ["2"]
    assert shown(9) == []
    assert shown(11) == [left_out]  # not that torch wants something else
    assert shown(12) == [left_out]
    assert shown(13) == [f"{another} (AssertionError)."]
