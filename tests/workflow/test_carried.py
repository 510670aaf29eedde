"""Chapters that carry the package: the first cell, the form fields, and traps of other hosts."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest

from workflow import carried
from workflow.chapters import ROOT, WorkflowError, chapters
from workflow.notebook_cells import has_tag, read_committed

FIRST = next(iter(chapters().values()))


def setup_cell(wheel: Path) -> str:
    notebook = carried.carried(read_committed(FIRST.notebook), wheel)
    (cell,) = (cell for cell in notebook.cells if has_tag(cell, "setup"))
    return cell.source


def files_in(wheel: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as packed:
        return {file.filename: packed.read(file) for file in packed.infolist()}


@pytest.fixture
def machine(monkeypatch):
    """A machine without addlib, with other versions of torch and numpy, whose pip is a stub."""
    calls = []
    lacks = {"addlib"}
    find_spec = importlib.util.find_spec

    def run(command, **_):
        wheel = Path(command[-3])
        calls.append(SimpleNamespace(command=command, wheel=wheel.read_bytes(), name=wheel.name))
        return SimpleNamespace(returncode=machine.returncode)

    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in lacks else find_spec(name)
    )
    monkeypatch.setattr(metadata, "version", lambda name: {"torch": "9.1+x", "numpy": "1.0"}[name])
    monkeypatch.setattr(subprocess, "run", run)
    notebook = ModuleType("addlib.notebook")
    notebook.setup = lambda: None
    monkeypatch.setitem(sys.modules, "addlib.notebook", notebook)
    machine = SimpleNamespace(calls=calls, lacks=lacks, returncode=0)
    return machine


def test_the_first_cell_installs_the_very_wheel_and_keeps_torch_and_numpy(wheel, machine):
    """numpy may be loaded already: another version beside it would break both."""
    exec(setup_cell(wheel), {})
    (call,) = machine.calls
    assert files_in(call.wheel) == files_in(wheel.read_bytes())
    assert call.name == wheel.name
    assert call.command[-2:] == ["torch==9.1+x", "numpy==1.0"]


def test_where_the_package_is_nothing_is_installed(wheel, machine):
    machine.lacks.clear()
    exec(setup_cell(wheel), {})
    assert machine.calls == []


def test_without_a_network_the_first_cell_says_what_to_do(wheel, machine):
    machine.returncode = 1
    with pytest.raises(SystemExit, match="on Kaggle, switch Internet on"):
        exec(setup_cell(wheel), {})


def values_of(source: str) -> dict[str, object]:
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
    }


@pytest.mark.parametrize("name", chapters())
def test_a_carried_chapter_is_the_chapter_with_form_fields(name, wheel):
    committed = read_committed(chapters()[name].notebook)
    notebook = carried.carried(read_committed(chapters()[name].notebook), wheel)
    nbformat.validate(notebook)
    for before, after in zip(committed.cells, notebook.cells, strict=True):
        if has_tag(after, "parameters"):
            assert values_of(after.source) == values_of(before.source)
            fields = re.findall(r'# @param \{type: "\w+"\}', after.source)
            assert len(fields) == len(values_of(before.source))
        elif not has_tag(after, "setup"):
            assert after.source == before.source
        assert not after.get("outputs")
    assert len(nbformat.writes(notebook).encode()) <= carried.MOST_BYTES


def test_form_fields_keep_the_values_and_the_comments():
    source = (
        'steps = 40_000  # optimiser steps, at least 10\nlr = 8e-5  # above 0\nname = "a"  # which'
    )
    assert carried.form_fields(source).splitlines() == [
        "# @title Parameters",
        "# @markdown `steps`: optimiser steps, at least 10",
        'steps = 40000  # @param {type: "integer"}',
        "# @markdown `lr`: above 0",
        'lr = 8e-05  # @param {type: "number"}',
        "# @markdown `name`: which",
        'name = "a"  # @param {type: "string"}',
    ]


def test_the_committed_notebooks_have_no_form_fields():
    for chapter in chapters().values():
        assert "@param" not in chapter.notebook.read_text(encoding="utf-8")


def test_the_site_offers_every_chapter_and_the_package(tmp_path, wheel, monkeypatch):
    (tmp_path / "book").mkdir()
    carried.write(tmp_path)
    assert not (tmp_path / carried.FOLDER).exists()  # a book without the page offers nothing
    (tmp_path / carried.PAGE).touch()
    monkeypatch.setattr(carried, "build_wheel", lambda folder: Path(shutil.copy(wheel, folder)))
    carried.write(tmp_path)
    links = re.findall(r"<(\S+)>`", (tmp_path / carried.LIST).read_text(encoding="utf-8"))
    assert len(links) == len(chapters()) + 1
    assert all((tmp_path / "book" / link).is_file() for link in links)
    source = (ROOT / carried.PAGE).read_text(encoding="utf-8")
    assert "{include} _generated/carried.md" in source


def test_a_chapter_that_grew_too_large_is_refused(tmp_path, wheel, monkeypatch):
    (tmp_path / "book").mkdir()
    (tmp_path / carried.PAGE).touch()
    monkeypatch.setattr(carried, "build_wheel", lambda folder: wheel)
    monkeypatch.setattr(carried, "MOST_BYTES", 1000)
    with pytest.raises(WorkflowError, match=r"with its package has .* bytes: too large"):
        carried.write(tmp_path)


def test_the_text_of_a_wheel_leaves_room_for_a_chapter(wheel):
    assert len(carried.wheel_text(wheel)) < carried.MOST_BYTES - 150_000
