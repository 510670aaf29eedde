"""The committed notebooks: their form, their stored outputs against a new run, their mechanics in smoke runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import nbformat
import pytest
import yaml

from cells import COMPARED, has_tag
from chapters import ROOT, Chapter, chapters
from runs import SmokeRuns, run_script

CHAPTERS = chapters()

COMPARED_HERE = [name for name, chapter in CHAPTERS.items() if chapter.nbval == "test"]

MAX_BYTES = 200_000


def nbval(chapter: Chapter, results: Path, cell_timeout: int = 3600, **environment: str) -> CompletedProcess[str]:
    """Run the committed notebook anew and compare the outputs of its compared cells."""
    environment.setdefault("ADDLIB_CACHE", os.environ.get("ADDLIB_CACHE", str(ROOT / "weights")))
    return run_script(
        *("-m", "pytest", "--nbval-lax", f"--nbval-cell-timeout={cell_timeout}", "--timeout=0"),
        *("-p", "no:cacheprovider", chapter.notebook),
        ADDLIB_RESULTS=str(results),
        **environment,
    )


@pytest.mark.full_size
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMPARED_HERE)
def test_stored_outputs_are_what_a_new_run_gives(name: str, tmp_path: Path) -> None:
    done = nbval(CHAPTERS[name], tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_wrong_carry_formula_is_seen(tmp_path: Path) -> None:
    """A copy of the package with one comparison changed, put before the real one, must fail the check."""
    shutil.copytree(ROOT / "addlib", tmp_path / "addlib")
    task = tmp_path / "addlib" / "task.py"
    formula = "pair_sum[:, i] + carry[:, i] >= self.base"
    source = task.read_text(encoding="utf-8")
    assert source.count(formula) == 1
    task.write_text(source.replace(formula, f"{formula} - 1"), encoding="utf-8")

    done = nbval(CHAPTERS["01_setup"], tmp_path / "results", cell_timeout=300, PYTHONPATH=str(tmp_path))

    assert done.returncode == 1, done.stdout
    assert "Cell outputs differ" in done.stdout or "mismatch" in done.stdout, done.stdout


@pytest.fixture(scope="module", params=CHAPTERS)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS[request.param].notebook, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_code_cell_was_executed(notebook: nbformat.NotebookNode) -> None:
    """nbval skips a cell whose stored count is null, and then compares nothing."""
    never = [cell.source for cell in code_cells(notebook) if cell.execution_count is None]
    assert not never


def test_outputs_are_stored_in_compared_cells_only(notebook: nbformat.NotebookNode) -> None:
    compared = [cell for cell in code_cells(notebook) if has_tag(cell, COMPARED)]
    assert len(compared) >= 2
    assert not [cell.source for cell in compared if not cell.outputs], "compared cells without an output"
    others = [cell for cell in code_cells(notebook) if not has_tag(cell, COMPARED)]
    assert not [cell.source for cell in others if cell.outputs], "outputs that nothing compares"


def test_stored_outputs_are_small_texts(notebook: nbformat.NotebookNode) -> None:
    """No pictures, no figures' JSON, no progress bars, no errors."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                assert output.name == "stdout", cell.source
            else:
                assert output.output_type in ("display_data", "execute_result"), cell.source
                assert set(output.data) <= {"text/plain", "text/markdown"}, cell.source


def test_setup_cells_are_the_same_everywhere() -> None:
    notebooks = [nbformat.read(chapter.notebook, as_version=4) for chapter in CHAPTERS.values()]
    cells = [[cell for cell in code_cells(notebook) if has_tag(cell, "setup")] for notebook in notebooks]
    assert [len(found) for found in cells] == [1] * len(CHAPTERS)
    assert len({(found[0].source, tuple(found[0].metadata.tags)) for found in cells}) == 1


@pytest.mark.parametrize("name", CHAPTERS)
def test_committed_notebooks_are_small(name: str) -> None:
    assert CHAPTERS[name].notebook.stat().st_size < MAX_BYTES


def test_every_notebook_is_a_chapter_of_the_book() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [word for word in json.dumps(toc).split('"') if word.startswith("notebooks/")]
    assert listed == [f"notebooks/{name}" for name in CHAPTERS]
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(CHAPTERS)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_runs_with_smoke_parameters(name: str, smoke_runs: SmokeRuns) -> None:
    done = smoke_runs.processes[name]
    assert done.returncode == 0, done.stdout
    record = smoke_runs.results.record(name)
    assert record["smoke"]
    assert record["parameters"] == CHAPTERS[name].smoke


def test_smoke_runs_leave_no_claims_in_the_ledger(smoke_runs: SmokeRuns) -> None:
    """Their values mean nothing: the records say so, and lie where nothing collects them."""
    done = run_script("-m", "addlib.claims", "collect", "--results", smoke_runs.results.folder)
    assert done.returncode == 0, done.stdout
    assert json.loads((smoke_runs.results.folder / "claims.json").read_text(encoding="utf-8")) == []
    records = smoke_runs.results.claims(smoke=True)
    assert records
    assert all(record["smoke"] for record in records)
