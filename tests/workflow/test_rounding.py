"""Verdicts under other roundings: which differ is counted, recorded and shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

from workflow import rounding


def claim(name, value, verdict, chapter="02_training"):
    return {
        "id": name,
        "chapter": chapter,
        "statement": f"Statement of {name} | more.",
        "threshold": ">= 0.9",
        "value": value,
        "verdict": verdict,
    }


MEASURED = {
    "one thread": [
        claim("02.a", 0.95, "holds"),
        claim("02.b", 0.91, "holds"),
        claim("02.c", 0.95, "holds"),
    ],
    "AVX2": [claim("02.a", 0.95, "holds"), claim("02.b", 0.89, "fails")],
}


def test_claims_that_all_settings_have_are_compared():
    content = rounding.compared(MEASURED)
    assert content["claims"] == 2
    assert content["same_value"] == 1
    assert list(content["differing_verdicts"]) == ["02.b"]
    assert content["differing_verdicts"]["02.b"]["values"] == [0.91, 0.89]
    assert content["differing_verdicts"]["02.b"]["verdicts"] == ["holds", "fails"]


def test_the_table_shows_value_and_verdict_of_each_setting():
    head = {
        "made_by": "a test",
        "date": "2026-01-01",
        "device": "cpu",
        "revision": "abc",
        "versions": {"torch": "2"},
    }
    lines = rounding.rounding_table(head | rounding.compared(MEASURED)).splitlines()
    assert lines[0] == (
        "Of 2 claims, 1 have another verdict under another setting; 1 have the same value to four "
        "digits under all 2."
    )
    assert lines[2:5] == [
        "| claim | threshold | one thread | AVX2 |",
        "|---|---|---|---|",
        "| **02.b** Statement of 02.b \\| more. | ≥ 0.9 | 0.91 ✓ holds | 0.89 ✗ fails |",
    ]
    assert lines[-1] == "Measured on 2026-01-01 on cpu by `a test`, revision abc, torch 2."


def test_a_second_start_runs_only_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(rounding, "ROOT", tmp_path)
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "cache"))
    started = []

    def execute(command, cwd, env, check):
        name, folder = command[3], tmp_path / "results" / "rounding" / "one-thread-AVX2"
        started.append((name, env["OMP_NUM_THREADS"], env["ATEN_CPU_CAPABILITY"]))
        assert str(folder) == command[5]
        assert env["ADDLIB_CACHE"] == str(tmp_path / "cache" / "rounding" / "one-thread-AVX2")
        (folder / "executed").mkdir(parents=True, exist_ok=True)
        (folder / "claims").mkdir(exist_ok=True)
        (folder / "executed" / f"{name}.ipynb").write_text("{}")
        record = claim(f"{name[:2]}.a", 1, "holds", name)
        (folder / "claims" / f"{name[:2]}.a.json").write_text(json.dumps(record))

    monkeypatch.setattr(rounding, "subprocess", SimpleNamespace(run=execute))
    for names in (["01_setup"], ["01_setup", "02_training"]):
        records = rounding.run("one thread, AVX2", names)
        assert [record["chapter"] for record in records] == names
    assert started == [("01_setup", "1", "avx2"), ("02_training", "1", "avx2")]
