"""Every chapter runs with smoke parameters, in seconds, without a network or trained weights."""

from __future__ import annotations

import nbformat
import pytest

from smoke import OFFLINE, RESULTS, run_all, run_smoke
from workflow.chapters import chapters

CHAPTERS = chapters()


@pytest.mark.depends_on("notebooks/{name}.ipynb", OFFLINE)
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_runs_with_smoke_parameters(name: str) -> None:
    done = run_smoke(name)
    assert done.returncode == 0, done.stdout
    record = RESULTS.record(name)
    assert record["smoke"]
    assert record["parameters"] == CHAPTERS[name].smoke


@pytest.mark.depends_on("notebooks/*.ipynb", OFFLINE)
def test_smoke_runs_leave_no_claims_in_the_ledger() -> None:
    """Their values mean nothing: the records say so, and lie where nothing collects them."""
    run_all()
    assert list((RESULTS.folder / "claims").glob("*.json")) == []
    records = RESULTS.claims(smoke=True)
    assert records
    assert all(record["smoke"] for record in records)


@pytest.mark.depends_on("notebooks/*.ipynb", OFFLINE)
def test_every_claim_is_measured_or_said_to_be_lacking() -> None:
    """In a whole run that would stop the book at its end; what a cell names may lack its model here."""
    run_all()
    for record in RESULTS.claims(smoke=True):
        if record["value"] is None and record["cell"] is None:
            notebook = nbformat.read(RESULTS.executed(record["chapter"]), 4)
            code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            assert f'"{record["id"]}"' in "\n".join(code), record["id"]
