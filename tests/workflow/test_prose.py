"""Faults of prose are found before a chapter runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workflow.chapters import Chapter, WorkflowError
from workflow.prose import check_prose

CODE = """\
from math import pi as circle
import numpy as np
share = 0.9
def doubled(number):
    return 2 * number
for step in range(3):
    picture = step
"""

OPENING = "%%opening picture 1.1 name if share > 0.5\nA {share}.\n%%else\nB.\n\n"

LABELS = "Caption: C {circle}.\n%%else\nD.\n\nAlt: E."


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Check a notebook of the code above and one cell of prose."""

    def check(source: str) -> None:
        chapter = Chapter(name="04_us9_cascades", title="", part="", run_time="", smoke={})
        notebook = new_notebook(cells=[new_code_cell(source), new_code_cell(CODE)])
        monkeypatch.setattr(Chapter, "notebook", tmp_path / "chapter.ipynb")
        nbformat.write(notebook, chapter.notebook)
        check_prose(chapter)

    return check


@pytest.mark.parametrize(
    "source",
    [
        "%%reading\nPlain, {share:.0%}, {doubled(share)}, {np.pi:.{picture}f} and $x_{{i}}$.",
        "%%reading if share > 0.5\nA.\n%%else\nB.",
        "%%figure picture 1.2 name\nCaption {max(s for s in [share])}.\n\nAlt: a picture.",
        OPENING + LABELS,
        "%%opening\nNo figure.",
        "%%prediction 04.off-by-one\nAt least {share}.",
        "%%summary\n{over_models([share])} and {median([share])}",
        "print('%%reading {no_name}')",
    ],
)
def test_prose_without_fault_passes(checked, source):
    checked(source)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("%%reading\n{shares}", "no cell of the notebook makes shares"),
        ("%%reading\n{share", "can't be read"),
        ("%%reading if share >\nA.", "can't be read"),
        ("%%reading if shares\nA.", "makes shares"),
        ("%%reading share > 0.5\nA.", "a condition begins with if"),
        ("%%reading\nA.\n%%else\nB.", "one %%else"),
        ("%%reading if share\nA.\n%%else\nB.\n%%else\nC.", "one %%else"),
        ("%%figure picture 1.2\nCaption.\n\nAlt: a picture.", "three words"),
        ("%%figure picture 1.2 name\nCaption.", "begins with Alt:"),
        ("%%figure drawing 1.2 name\nCaption.\n\nAlt: a picture.", "makes drawing"),
        (OPENING + "Alt: no caption.", "Caption:"),
        (OPENING + "B.\n%%else\n" + LABELS, "one %%else"),
        ("%%prediction\nNo claim.", "names no claim"),
        ("%%prediction 04.off-by-two\nA.", "04.off-by-two is no claim of this chapter"),
        ("%%prediction 05.base-add-share\nA.", "05.base-add-share is no claim of this chapter"),
        ("%%summary\n{numbers}", "makes numbers"),
    ],
)
def test_a_fault_is_named_with_its_cell(checked, source, fault):
    with pytest.raises(WorkflowError) as raised:
        checked(source)
    assert fault in str(raised.value)
    assert source.splitlines()[0] in str(raised.value)
