"""Every chapter runs with smoke parameters, in seconds, without a network or trained weights."""

from __future__ import annotations

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
