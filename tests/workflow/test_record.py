"""Records of machines: made from a bare GPU's results, and what pages say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workflow import chapter_list, chapters, device_page, record
from workflow.chapters import WorkflowError

PARTS: dict[str, Any] = {
    "environment": {
        "revision": "abc123",
        "device": "NVIDIA X-1",
        "cores": 16,
        "date": "2026-01-02",
        "versions": {"torch": "2.0"},
    },
    "chapters": {
        "result": {
            "seconds_of_all": 100.0,
            "chapters": {
                "01_setup": {"status": "done", "seconds": 30.4},
                "02_training": {"status": "failed", "seconds": 3.0},
            },
            "claims": {
                "02.a": {"value": 0.91, "threshold": ">= 0.9", "verdict": "holds"},
                "02.b": {"value": 0.91, "threshold": ">= 0.9", "verdict": "holds"},
                "02.c": {"value": 0.91, "threshold": ">= 0.8", "verdict": "holds"},
                "02.d": {"value": None, "threshold": ">= 0.9", "verdict": "fails"},
            },
            "said": {"01_setup": "what it printed"},
        }
    },
    "main": {"result": {"seconds": 7.67, "runs": []}},
    "grokking": {"error": "Traceback", "seconds": 3.0},
    "eight seeds": {"skipped": True},
    "benchmarks": {
        "result": {"train_step_cuda": {"naive_ms": 12.0, "fast_ms": 2.0, "ratio": 6.04}}
    },
}


@pytest.fixture
def folder(monkeypatch, tmp_path: Path) -> Path:
    """The folder of records, empty."""
    monkeypatch.setattr(chapters, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(record, "RECORDS", tmp_path / "records")
    return tmp_path / "records"


def made(tmp_path: Path, **parts: Any) -> dict[str, Any]:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(PARTS | parts))
    content = record.from_bare_gpu(file)
    record.write(content)
    return content


@pytest.mark.parametrize(
    "text", ["", "[]", '{"environment": {}}', json.dumps(PARTS | {"chapters": {"skipped": True}})]
)
def test_what_is_no_result_of_the_bare_run_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(WorkflowError, match=r"no results of workflow\.bare_gpu"):
        record.from_bare_gpu(file)


def test_a_record_has_what_was_measured_and_no_more(folder: Path, tmp_path: Path) -> None:
    content = made(tmp_path)
    assert json.loads((folder / "nvidia-x-1.json").read_text()) == content
    assert content["made_by"] == "workflow.bare_gpu"
    assert content["main"]["seconds"] == 7.67
    assert content["benchmarks"] == PARTS["benchmarks"]["result"]
    assert not {"grokking", "eight seeds", "said"} & content.keys()


def test_a_number_that_is_none_is_not_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        made(tmp_path, main={"result": {"seconds": float("nan")}})
    assert not folder.exists()


def test_changed_files_get_no_record(monkeypatch, capsys) -> None:
    monkeypatch.setattr("addlib.claims.stored.revision", lambda: "abc123-dirty")
    monkeypatch.setattr("sys.argv", ["record"])
    assert record.main() == 2
    assert "abc123-dirty: commit the changed files" in capsys.readouterr().err


def test_times_of_chapters_that_ran_are_in_readmes_table(folder: Path, tmp_path: Path) -> None:
    assert "| on one" not in chapter_list.table()
    made(tmp_path)
    head, _, first, second, *_ = chapter_list.table().splitlines()
    assert head.endswith("| on one NVIDIA X-1 |")
    assert first.endswith("| 30 s |")
    assert second.endswith("| – |")


def test_speed_is_said_where_it_was_measured(folder: Path, tmp_path: Path) -> None:
    assert device_page.speed_text() == ""
    made(tmp_path)
    text = device_page.speed_text()
    assert "| training step of the main model | 12.0 ms | 2.0 ms | 6.0 |" in text
    assert (
        "From nothing, files written: the main model with its snapshots 7.7 s; 2 chapters" in text
    )
    for absent in ("million", "at once", "p = 113", "as a graph"):
        assert absent not in text


def claim(id: str, value: float | None, verdict: str) -> dict[str, Any]:
    return {
        "id": id,
        "statement": f"Statement of {id} | more.",
        "unit": "",
        "threshold": ">= 0.9",
        "value": value,
        "verdict": verdict,
    }


def test_verdicts_are_compared_where_thresholds_are_the_same(folder: Path, tmp_path: Path) -> None:
    here = [
        claim("02.a", 0.92, "holds"),
        claim("02.b", 0.89, "fails"),
        claim("02.c", 0.89, "fails"),  # another threshold
        claim("02.d", 0.95, "holds"),  # no value there
        claim("02.e", 0.95, "holds"),  # not there
    ]
    assert device_page.device_text(here) == device_page.NONE
    made(tmp_path)
    lines = device_page.device_text(here).splitlines()
    assert lines[0] == (
        "One NVIDIA X-1 ran 1 chapters on 2026-01-02 (revision abc123, torch 2.0). Of 2 claims that "
        "were measured there against the thresholds of this page's run, 1 have another verdict."
    )
    assert lines[2:] == [
        "| claim | threshold | here | on the NVIDIA X-1 |",
        "|---|---|---|---|",
        "| **02.b** Statement of 02.b \\| more. | ≥ 0.9 | 0.89 ✗ fails | 0.91 ✓ holds |",
    ]
