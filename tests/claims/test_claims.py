"""Claims: declared once and checked, verdicts with known answers, records that are whole, a ledger
that refuses what is not sound.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from addlib import files
from addlib.claims import claim, ledger, provenance, stored
from addlib.claims.claim import KINDS, declared
from addlib.claims.ledger import Ledger, collect
from addlib.claims.provenance import revision
from addlib.claims.threshold import Threshold, quantity
from addlib.files import results_dir
from workflow.chapters import ROOT, chapters

number = st.floats(-1e6, 1e6, allow_nan=False)

LOSS = """\
  02.final-loss:
    statement: The loss ends low.
    source: this chapter
    metric: mean of the last 100 steps
    unit: nats
    threshold: "<= 0.05"
    kind: claim
"""

ACCURACY = LOSS.replace("02.final-loss", "02.accuracy").replace("<= 0.05", ">= 0.9")

DECLARED = f"02_training:\n{LOSS}{ACCURACY}06_heads:\n{LOSS.replace('02.final', '06.head')}"


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """Writes the declarations of a checkout of its own, in which the package then stands."""
    monkeypatch.setattr(claim, "PACKAGE", tmp_path / "addlib")
    (tmp_path / "book").mkdir()

    def write(text):
        path = tmp_path / "book" / "claims.yml"
        before = path.stat().st_mtime_ns if path.is_file() else 0
        path.write_text(text)
        os.utime(path, ns=(before + 10**9, before + 10**9))  # a file system's clock may be coarse

    write(DECLARED)
    return write


@pytest.fixture
def results(tmp_path, monkeypatch, declare):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("ADDLIB_SMOKE", raising=False)
    return tmp_path / "results"


# ------------------------------------------------------------------------ verdicts
@pytest.mark.parametrize(
    ("value", "ci", "threshold", "expected"),
    [
        (0.05, None, "<= 0.05", "holds"),
        (0.0501, None, "<= 0.05", "fails"),
        (0.04, (0.03, 0.05), "<= 0.05", "holds"),
        (0.04, (0.03, 0.06), "<= 0.05", "inconclusive"),
        (0.06, (0.05, 0.08), "<= 0.05", "inconclusive"),
        (0.07, (0.06, 0.08), "<= 0.05", "fails"),
        (0.9, None, ">= 0.9", "holds"),
        (0.89, None, ">= 0.9", "fails"),
        (0.95, (0.89, 0.97), ">= 0.9", "inconclusive"),
        (0.85, (0.8, 0.89), ">= 0.9", "fails"),
        (0.7, None, "in [0.6, 0.8]", "holds"),
        (0.6, (0.6, 0.8), "in [0.6, 0.8]", "holds"),
        (0.7, (0.5, 0.75), "in [0.6, 0.8]", "inconclusive"),
        (0.7, (0.5, 0.9), "in [0.6, 0.8]", "inconclusive"),
        (0.5, (0.4, 0.59), "in [0.6, 0.8]", "fails"),
        (0.9, (0.81, 0.95), "in [0.6, 0.8]", "fails"),
    ],
)
def test_verdict_of_known_cases(value, ci, threshold, expected):
    assert Threshold.parse(threshold).verdict(value, ci) == expected


def test_a_measurement_is_so_many_half_widths_beyond_its_threshold():
    assert Threshold(high=10).beyond(8, (7, 9)) == (2, [1, 3])
    assert Threshold(low=10).beyond(8, (7, 9)) == (-2, [-3, -1])
    assert Threshold(low=10).beyond(12, (12, 12)) == (2, [2, 2])


def thresholds(limit):
    return Threshold(high=limit), Threshold(low=limit), Threshold(limit, limit + 1)


@given(st.lists(number, min_size=3, max_size=3), number)
def test_a_holding_interval_holds_at_each_of_its_points_and_a_failing_one_fails(points, limit):
    low, value, high = sorted(points)
    for threshold in thresholds(limit):
        whole = threshold.verdict(value, (low, high))
        if whole != "inconclusive":
            assert {threshold.verdict(point) for point in (low, value, high)} == {whole}


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (Threshold(high=0.05), "<= 0.05"),
        (Threshold(low=90), ">= 90"),
        (Threshold(-0.1, 2), "in [-0.1, 2]"),
        (Threshold(high=1e-9), "<= 1e-09"),
    ],
)
def test_text_form(threshold, text):
    assert str(threshold) == text
    assert Threshold.parse(text) == threshold


@given(number)
def test_text_form_round_trip(limit):
    for threshold in thresholds(limit):
        assert Threshold.parse(str(threshold)) == threshold


@pytest.mark.parametrize("text", ["< 0.05", "<= ", "<= one", "<= nan", "in [1]", "in [2, 1]", ""])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        Threshold.parse(text)


@pytest.mark.parametrize("limits", [(), (math.nan, 1), (0, math.nan), (0.2, 0.1), (math.inf, 3)])
def test_impossible_thresholds_are_refused(limits):
    with pytest.raises(ValueError):
        Threshold(*limits)


# -------------------------------------------------------------------- declarations
def test_a_declaration_is_read_whole(declare):
    more = "    registered: 2026-11-26\n    seen:\n    changes: none\n"
    declare(DECLARED.replace(LOSS, LOSS + more, 1))
    claims = declared()
    assert list(claims) == ["02.final-loss", "02.accuracy", "06.head-loss"]
    loss = claims["02.final-loss"]
    assert (loss.chapter, loss.place) == ("02_training", "book/claims.yml:2")
    assert (loss.threshold, loss.kind, loss.unit) == (Threshold(high=0.05), "claim", "nats")
    assert (loss.registered, loss.seen, loss.changes) == (date(2026, 11, 26), "", "none")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("", "exploratory"),
        ("    registered: 2026-11-26\n", "registered"),
        ("    seen: seed 129000\n", "after a look"),
        ("    registered: 2026-11-26\n    seen: seed 129000\n", "after a look"),
    ],
)
def test_status_follows_from_what_was_seen_first(declare, fields, status):
    declare(f"02_training:\n{LOSS}{fields}")
    assert declared()["02.final-loss"].status == status


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("02_training", "training", r"yml:1: training is no chapter: write the name of its note"),
        ("06_heads", "02_training", r"yml:16: 02_training stands here a second time: keep one"),
        ("02.accuracy", "02.final-loss", r"yml:9: 02.final-loss stands here a second time"),
        ("06.head-loss", "05.head-loss", r"yml:17: 05.head-loss: write the number of 06_heads"),
        ("02.accuracy", "02.Accuracy", r"yml:9: 02.Accuracy: write the number of 02_training and"),
        ("    unit: nats\n", "", r"yml:2: 02.final-loss: has no unit: add it"),
        ("unit: nats", "unit:", r"yml:2: 02.final-loss: has no unit: add it"),
        ("unit: nats", "unti: nats", r"yml:2: 02.final-loss: unti is no field: use statement, "),
        ("unit: nats", "unit: [nats]", r"yml:2: 02.final-loss: unit must be one text: write"),
        ("unit: nats", "source: me", r"yml:6: source stands here a second time"),
        ("<= 0.05", "under 0.05", r"yml:2: 02.final-loss: threshold 'under 0.05': must read '<="),
        ("kind: claim", "kind: guess", r"yml:2: 02.final-loss: kind 'guess' must be one of clai"),
        ("kind: claim", "kind: claim\n    registered: May", r"yml:2: 02.final-loss: Invalid iso"),
        ("unit: nats", 'unit: "nats', r"yml: is not YAML: (.|\n)*line"),
        (DECLARED, "", r"yml:1: write names with their values here"),
        (DECLARED, "02_training: later\n", r"yml:1: write names with their values here"),
    ],
)
def test_bad_declarations_are_refused_with_their_line(declare, old, new, complaint):
    declare(DECLARED.replace(old, new, 1))
    with pytest.raises(ValueError, match=complaint):
        declared()


def test_a_chapter_without_a_notebook_is_no_chapter(declare, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_training.ipynb").touch()
    with pytest.raises(ValueError, match=r"claims\.yml:16: 06_heads is no chapter"):
        declared()


def test_the_books_own_claims_are_declared_for_its_chapters():
    claims = declared().values()
    assert {claim.chapter for claim in claims} <= set(chapters())
    assert {claim.kind for claim in claims} <= set(KINDS)
    assert len(claims) > 50


def test_the_wheel_brings_the_declared_claims_and_reads_them_without_a_checkout(wheel, tmp_path):
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    assert [path.name for path in (installed / "addlib" / "book").iterdir()] == ["claims.yml"]
    asks = "from addlib.claims.claim import declared; print(len(declared()))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = subprocess.check_output(
        [sys.executable, "-c", asks], cwd=tmp_path, env=environment, text=True
    )
    assert int(said) == len(declared())


# ------------------------------------------------------------------------- records
def test_measure_writes_the_record_it_returns(results):
    claims = Ledger("02_training", device="cuda:0", seed=7)
    record = claims.measure("02.final-loss", 0.03, ci=(0.02, 0.04))
    assert json.loads((results / "claims" / "02.final-loss.json").read_text()) == record
    expected = dict(
        chapter="02_training",
        statement="The loss ends low.",
        metric="mean of the last 100 steps",
        unit="nats",
        threshold="<= 0.05",
        kind="claim",
        status="exploratory",
        value=0.03,
        ci=[0.02, 0.04],
        n_seeds=1,
        seed=7,
        verdict="holds",
        device="cuda:0",
        cell=None,
        smoke=False,
    )
    assert {key: record[key] for key in expected} == expected
    assert record["revision"]
    assert claims.records == [record]
    assert [path.name for path in (results / "claims").iterdir()] == ["02.final-loss.json"], (
        "a partial file stayed"
    )


def test_a_record_names_the_weights_of_a_language_model_and_no_others(results):
    claims = Ledger("02_training", weights="Big, 4 bits")
    assert claims.measure("02.final-loss", 0.03)["weights"] == "Big, 4 bits"
    assert claims.measure("02.accuracy", 0.9, weights="Small")["weights"] == "Small"
    assert "weights" not in Ledger("02_training").measure("02.final-loss", 0.03)


def test_claims_about_one_runs_model_name_its_checkpoint(results):
    config = SimpleNamespace(seed=7)
    run = SimpleNamespace(config=config, device=torch.device("cpu"), file="", checkpoint="f00d")
    claims = Ledger.of("02_training", run)
    record = claims.measure("02.final-loss", 0.03)
    assert (record["checkpoint"], record["seed"], record["device"]) == ("f00d", 7, "cpu")
    assert "checkpoint" not in claims.measure("02.accuracy", 0.9, n_seeds=3)
    other = Ledger.of("02_training", run).measure("02.accuracy", 0.9, seed=8)
    assert "checkpoint" not in other
    assert "checkpoint" not in Ledger("02_training").measure("02.final-loss", 0.03)


def test_a_measurement_may_name_its_own_device_and_seed_and_many_seeds_have_none(results):
    claims = Ledger("02_training", device="cuda:0", seed=7)
    record = claims.measure("02.final-loss", 0.03, device="cpu", seed=0)
    assert (record["device"], record["seed"]) == ("cpu", 0)
    record = claims.measure("02.accuracy", 0.95, n_seeds=3)
    assert (record["device"], record["n_seeds"], record["seed"]) == ("cuda:0", 3, None)


def test_a_claim_names_the_gpu_that_it_was_measured_on(results, monkeypatch):
    names = {0: "GPU Zero", 1: "GPU One"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index or 0])
    claims = Ledger("02_training", device=torch.device("cuda:1"))
    assert claims.measure("02.final-loss", 0.03)["device"] == "GPU One"
    assert claims.measure("02.accuracy", 0.9, device=torch.device("cpu"))["device"] == "cpu"


def test_the_ledger_says_where_models_of_other_seeds_differ(results, monkeypatch):
    claims = Ledger("02_training", seed=7)
    assert claims.beside_other_seeds() == ""
    claims.measure("02.final-loss", 0.03)
    assert claims.beside_other_seeds() == ""
    record = {"date": "2026-01-02", "claims": {}}
    monkeypatch.setattr(stored, "read_those", lambda *names: [record])
    for id, verdicts in {
        "02.final-loss": ["holds", "holds", "fails"],  # the first is of the run's own seed
        "02.accuracy": ["fails", "holds", "holds"],
    }.items():
        threshold = str(claims[id].threshold)
        entry = {"chapter": "02_training", "threshold": threshold, "seeds": [7, 8, 9]}
        record["claims"][id] = entry | {"values": [0.0, 0.0, 0.0], "verdicts": verdicts}
    claims.measure("02.accuracy", 0.95)
    assert claims.beside_other_seeds().splitlines() == [
        "The whole chapter was also run for 2 other seeds, with models of their own. They all give this "
        "run's verdict for 1 of 2 claims, and at least one gives another for these:",
        "",
        "- The loss ends low. Here: holds; elsewhere it holds in 1 of 2 seeds, fails in 1.",
    ]
    record["claims"]["02.final-loss"]["verdicts"][2] = "holds"
    assert claims.beside_other_seeds().endswith("for 2 of 2 claims.")


def test_a_failing_claim_is_recorded(results):
    assert Ledger("02_training").measure("02.final-loss", 0.5)["verdict"] == "fails"
    assert collect()[0]["verdict"] == "fails"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(results, value):
    with pytest.raises(ValueError, match="must be finite"):
        Ledger("02_training").measure("02.final-loss", value)
    with pytest.raises(ValueError, match="must be finite"):
        Ledger("02_training").measure("02.final-loss", 0.03, ci=(0.01, value))
    assert not results.exists()


@pytest.mark.parametrize("ci", [(0.04, 0.05), (0.01, 0.02), (0.05, 0.01)])
def test_an_interval_without_its_value_is_refused(results, ci):
    with pytest.raises(ValueError, match=r"value 0\.03 in \[.*\]: must be finite, in that order"):
        Ledger("02_training").measure("02.final-loss", 0.03, ci=ci)


def test_an_undeclared_claim_is_refused_with_the_nearest_one(results):
    complaint = r"02\.final-los is measured and not declared .* 02\.final-loss \(book/claims\.yml:2"
    with pytest.raises(ValueError, match=complaint):
        Ledger("02_training").measure("02.final-los", 0.03)
    with pytest.raises(ValueError, match="not declared"):
        Ledger("02_training")["02.final-los"]
    assert not results.exists()


def test_a_claim_of_another_chapter_is_refused(results):
    complaint = r"claims\.yml:17: 06\.head-loss is declared for 06_heads, and 02_training asks for"
    with pytest.raises(ValueError, match=complaint):
        Ledger("02_training").measure("06.head-loss", 0.03)


def test_a_run_measures_a_claim_once(results, monkeypatch):
    claims = Ledger("02_training")
    running = [3, 5, 3, None]
    monkeypatch.setattr(ledger, "_running_cell", lambda: running.pop(0))
    claims.measure("02.final-loss", 0.03)
    for cells in ("3 and 5", "3 and 3", "3 and None"):
        complaint = rf"claims\.yml:2: 02\.final-loss is measured twice, in cells {cells}"
        with pytest.raises(ValueError, match=complaint):
            claims.measure("02.final-loss", 0.04)


def test_a_person_may_run_a_cell_again_and_leaves_the_books_records_alone(results, monkeypatch):
    Ledger("02_training").measure("02.final-loss", 0.03)
    monkeypatch.delenv("ADDLIB_RESULTS")
    monkeypatch.setattr(ledger, "results_dir", lambda: results)
    claims = Ledger("02_training")
    running = [57, 57, 58]
    monkeypatch.setattr(ledger, "_running_cell", lambda: running.pop(0))
    claims.measure("02.final-loss", 0.5)
    with pytest.raises(ValueError, match="measured twice, in cells 57 and 57"):
        claims.measure("02.final-loss", 0.6)
    claims.measure("02.final-loss", 0.01)
    assert [(record["value"], record["cell"]) for record in claims.records] == [(0.01, 58)]
    assert [record["value"] for record in collect()] == [0.03]


def test_a_write_that_fails_leaves_the_old_record_whole(results, monkeypatch):
    Ledger("02_training").measure("02.final-loss", 0.03)
    path = results / "claims" / "02.final-loss.json"
    before = path.read_text()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        Ledger("02_training").measure("02.final-loss", 0.5)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_table_is_rounded_and_in_the_order_of_ids(results):
    claims = Ledger("02_training")
    claims.measure("02.final-loss", 0.0312345)
    claims.measure("02.accuracy", 0.98765)
    assert claims.table().to_string().splitlines() == [
        "              threshold  value verdict",
        "id                                    ",
        "02.accuracy      >= 0.9   0.99   holds",
        "02.final-loss   <= 0.05  0.031   holds",
    ]


def test_statements_show_interval_and_refutation_of_the_ids_that_begin_so(results):
    claims = Ledger("02_training")
    claims.measure("02.final-loss", 0.03, ci=(0.02, 0.06))
    claims.measure("02.accuracy", 0.98765)
    rows = claims.statements("02.final")
    assert len(rows) == 1
    row = rows.iloc[0]
    assert row["statement"] == claims["02.final-loss"].statement
    assert row["refuted by"] == claims["02.final-loss"].refuted_by
    assert "0.02 to 0.06" in row["measured"]
    assert row["verdict"].endswith("inconclusive")
    assert len(claims.statements("02.")) == 2


# -------------------------------------------------------------------------- ledger
def measured(results):
    """Both claims of chapter 02, measured in a run that came to its end."""
    claims = Ledger("02_training")
    claims.measure("02.final-loss", 0.03)
    claims.measure("02.accuracy", 0.5)
    (results / "executed").mkdir()
    source = 'claims.measure("02.final-loss", a)\nif b:\n    claims.measure("02.accuracy", b)'
    notebook = new_notebook(cells=[new_code_cell(source)])
    nbformat.write(notebook, results / "executed" / "02_training.ipynb")
    return claims


def test_collect_sorts_and_writes(results):
    measured(results)
    records = collect()
    assert [record["id"] for record in records] == ["02.accuracy", "02.final-loss"]
    assert json.loads((results / "claims.json").read_text()) == records


def test_collect_takes_a_sentence_from_the_declaration_and_no_new_threshold(results, declare):
    measured(results)
    declare(DECLARED.replace("The loss ends low.", "The loss ends very low.", 1))
    assert collect()[1]["statement"] == "The loss ends very low."
    declare(DECLARED.replace("<= 0.05", "<= 0.01", 1))
    complaint = r"was measured against <= 0\.05 .*claims\.yml:2 declares <= 0\.01 \(fails\); delete"
    with pytest.raises(ValueError, match=complaint):
        collect()


def test_collect_refuses_what_is_measured_and_not_declared_and_the_reverse(results, declare):
    measured(results)
    declare(DECLARED.replace("02.final-loss", "02.last-loss", 1))
    with pytest.raises(ValueError) as error:
        collect()
    assert len(lines := str(error.value).splitlines()) == 2
    assert "02.final-loss is measured and not declared" in lines[0]
    assert "02.last-loss (book/claims.yml:2)" in lines[0]
    assert lines[1].startswith("book/claims.yml:2: 02.last-loss is declared, and 02_training does")
    assert [record["id"] for record in collect(tolerant=True)] == ["02.accuracy"]


def test_what_the_model_lacks_is_not_borne_out(results):
    """Neither missing nor refused; a claim that no cell mentions is."""
    claims = Ledger("02_training", seed=7)
    claims.measure("02.final-loss", 0.03)
    claims.close()
    (results / "executed").mkdir()
    notebook = new_notebook(cells=[new_code_cell('if b:\n    claims.measure("02.accuracy", b)')])
    nbformat.write(notebook, results / "executed" / "02_training.ipynb")
    accuracy, loss = collect()
    assert (accuracy["value"], accuracy["ci"], accuracy["verdict"]) == (None, None, "fails")
    assert (accuracy["seed"], accuracy["cell"]) == (7, None)
    assert loss["value"] == 0.03
    assert "fails</b> – mean of the last 100 steps: **could not be asked**" in claims.outcome(
        "02.accuracy"
    )
    assert claims.table().loc["02.accuracy", "value"] == "–"
    notebook.cells[0].source = "pass"
    nbformat.write(notebook, results / "executed" / "02_training.ipynb")
    with pytest.raises(ValueError, match=r"02\.accuracy is declared, and 02_training does not"):
        collect()


def test_what_a_cell_says_the_model_lacks_need_not_be_measured(results, monkeypatch):
    """The id may then stand in the package, and not in the chapter."""
    claims = Ledger("02_training", seed=7)
    claims.measure("02.final-loss", 0.03)
    monkeypatch.setattr(ledger, "_running_cell", lambda: 3)
    lacking = claims.lack("02.accuracy", "these weights")
    assert (lacking["value"], lacking["cell"], lacking["verdict"]) == (None, 3, "fails")
    assert lacking["weights"] == "these weights"
    with pytest.raises(ValueError, match="is measured twice, in cells 3 and 3"):
        claims.lack("02.accuracy")
    claims.close()
    (results / "executed").mkdir()
    notebook = new_notebook(cells=[new_code_cell('claims.measure("02.final-loss", b)')])
    nbformat.write(notebook, results / "executed" / "02_training.ipynb")
    assert [record["id"] for record in collect()] == ["02.accuracy", "02.final-loss"]


def test_what_needs_other_models_is_not_run_and_not_refuted(results, declare):
    declare(DECLARED.replace(ACCURACY, ACCURACY + "    needs: seeds 101 and 102\n"))
    claims = Ledger("02_training", seed=7)
    claims.measure("02.final-loss", 0.03)
    said = claims.outcome("02.accuracy")
    assert "not yet run</b> – mean of the last 100 steps; predicted ≥ 0.9" in said
    assert said.endswith("needs seeds 101 and 102")
    claims.close()
    (results / "executed").mkdir()
    notebook = new_notebook(cells=[new_code_cell('claims.measure("02.final-loss", b)')])
    nbformat.write(notebook, results / "executed" / "02_training.ipynb")
    assert [record["id"] for record in collect()] == ["02.final-loss"]
    claims.measure("02.accuracy", 0.95)
    assert "holds</b>" in claims.outcome("02.accuracy")


def test_nothing_but_a_failure_may_lack_its_value(results):
    Ledger("02_training").close()
    path = results / "claims" / "02.accuracy.json"
    path.write_text(path.read_text().replace('"fails"', '"holds"'))
    with pytest.raises(ValueError, match="must be finite"):
        collect()


def test_what_a_chapter_that_is_no_more_has_left_does_not_stand_in_the_way(results):
    measured(results)
    (results / "claims" / "99.old.json").write_text('{"id": "99.old", "chapter": "99_gone"}')
    assert len(collect()) == 2


def test_a_chapter_that_did_not_come_to_its_end_may_lack_claims(results):
    measured(results)
    (results / "executed" / "02_training.ipynb").unlink()
    (results / "claims" / "02.accuracy.json").unlink()
    assert [record["id"] for record in collect()] == ["02.final-loss"]


def test_smoke_runs_leave_real_records_alone_and_are_not_collected(results, monkeypatch):
    Ledger("02_training").measure("02.final-loss", 0.03)
    monkeypatch.setenv("ADDLIB_SMOKE", "1")
    assert Ledger("02_training").measure("02.final-loss", 0.5)["smoke"] is True
    assert [record["value"] for record in collect()] == [0.03]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (dict(verdict="fails"), r"<= 0\.05 \(fails\).* declares <= 0\.05 \(holds\)"),
        (dict(value=0.5), r"<= 0\.05 \(holds\).* declares <= 0\.05 \(fails\)"),
        (dict(value="0.03"), "must be finite"),
        (dict(value=True), "must be finite"),
        (dict(value=math.nan), "must be finite"),
        (dict(ci=[0.04, 0.05]), "in that order"),
        (dict(ci=[0.03]), "not enough values"),
        (dict(threshold="about 0.05"), "was measured against about 0.05"),
        (dict(chapter="06_heads"), "06_heads asks for it"),
        (dict(id="02.accuracy"), "named otherwise"),
        (dict(smoke=True), "smoke run"),
    ],
)
def test_collect_refuses_unsound_records(results, change, complaint):
    record = Ledger("02_training").measure("02.final-loss", 0.03)
    collect()
    before = (results / "claims.json").read_text()
    path = results / "claims" / "02.final-loss.json"
    path.write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=complaint) as error:
        collect()
    assert str(path) in str(error.value)
    assert (results / "claims.json").read_text() == before, "the old ledger must stay"


@pytest.mark.parametrize("key", ["id", "value", "ci", "threshold", "cell", "source"])
def test_collect_refuses_records_with_a_key_missing(results, key):
    record = Ledger("02_training").measure("02.final-loss", 0.03)
    del record[key]
    (results / "claims" / "02.final-loss.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"is no record: that has .*{key}"):
        collect()


@pytest.mark.parametrize("text", ["", '{"id": "02.fin', "[]", "3"])
def test_collect_refuses_files_that_hold_no_record_and_names_them_all(results, text):
    measured(results)
    for name in ("02.accuracy", "02.final-loss"):
        (results / "claims" / f"{name}.json").write_text(text)
    with pytest.raises(ValueError, match=r"02\.accuracy\.json(.|\n)*02\.final-loss\.json"):
        collect()


def test_command_line_prints_the_score(tmp_path):
    environment = {**os.environ, "ADDLIB_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = """
from addlib.claims.ledger import Ledger
claims = Ledger("02_training")
claims.measure("02.head-start-needs-order", 0.9)
claims.measure("02.accuracy", 0.5)
claims.measure("02.ends-first", 0.5, ci=(0.4, 0.6))
"""
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    command = [sys.executable, "-m", "addlib.claims.ledger", "collect", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "3 claims: 1 holds, 1 fails, 1 inconclusive\n"), (
        done.stderr
    )
    (tmp_path / "claims" / "02.accuracy.json").write_text("{")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "02.accuracy.json" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ where and what
def repository(folder, tracked):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(folder)]
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "files.py").write_text("1\n")
    (folder / "other.txt").write_text("1\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "other.txt", *(["package"] if tracked else [])], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "start"], check=True)
    return subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_revision_is_git_s_and_marks_changes(tmp_path, monkeypatch):
    for name, changed in (("clean", False), ("changed", True)):
        commit = repository(tmp_path / name, tracked=True)
        if changed:
            (tmp_path / name / "other.txt").write_text("2\n")
        monkeypatch.setattr(provenance, "PACKAGE", tmp_path / name / "package")
        assert commit.startswith(revision().removesuffix("-dirty"))
        assert revision().endswith("-dirty") == changed


def test_git_is_asked_once_in_a_process(tmp_path, monkeypatch):
    repository(tmp_path, tracked=True)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "package")
    first = revision()
    monkeypatch.setattr(subprocess, "run", None)
    assert revision() == first


def test_revision_outside_git_or_in_another_s_repository_is_the_version(tmp_path, monkeypatch):
    repository(tmp_path / "theirs", tracked=False)
    for package in (tmp_path, tmp_path / "theirs" / "package"):
        monkeypatch.setattr(provenance, "PACKAGE", package)
        assert revision().startswith("addlib ")


def test_an_archive_that_git_made_names_its_revision(tmp_path, monkeypatch):
    repository(tmp_path / "clone", tracked=True)
    git = ["git", "-C", str(tmp_path / "clone"), "-c", "user.name=n", "-c", "user.email=e"]
    folder = tmp_path / "clone" / "package"
    (folder / "archive.json").write_bytes((provenance.PACKAGE / "archive.json").read_bytes())
    (tmp_path / "clone" / ".gitattributes").write_text("package/archive.json export-subst\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "more"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    subprocess.run([*git, "archive", "-o", str(tmp_path / "a.tar"), "HEAD"], check=True)
    shutil.unpack_archive(tmp_path / "a.tar", tmp_path / "unpacked")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "unpacked" / "package")
    assert len(revision()) >= 7
    assert commit.startswith(revision())


def test_a_record_names_a_revision_that_can_be_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PACKAGE", tmp_path)
    monkeypatch.setattr(stored, "revision", lambda: "abc-dirty")
    with pytest.raises(ValueError, match="revision abc-dirty: commit the changed files"):
        stored.write("seeds", "a test", "a GPU", {"claims": {}})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(stored, "revision", lambda: "abc")
    written = json.loads(stored.write("seeds", "a test", "a GPU", {"claims": {}}).read_text())
    assert (written["made_by"], written["revision"]) == ("a test", "abc")
    assert written["device"] == "a GPU"


def test_results_lie_in_the_checkout_or_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("ADDLIB_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "site-packages" / "addlib")
    assert results_dir() == tmp_path / "results"
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "pyproject.toml").touch()
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "checkout" / "addlib")
    assert results_dir() == tmp_path / "checkout" / "results"
    monkeypatch.setenv("ADDLIB_RESULTS", "elsewhere")
    assert results_dir() == tmp_path / "checkout" / "elsewhere"
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path / "far"))
    assert results_dir() == tmp_path / "far"


@pytest.mark.parametrize(
    ("value", "unit", "seen"),
    [
        (0.98349, "fraction; 95 % Wilson interval", "98.3%"),
        (-0.02, "fraction", "−2%"),
        (0.339, "ratio of steps", "0.339"),
        (0.0149, "nats", "0.0149 nats"),
    ],
)
def test_values_are_seen_with_their_unit(value, unit, seen):
    assert quantity(value, unit) == seen


@pytest.mark.parametrize(
    ("text", "unit", "seen"),
    [
        (">= 0.9", "fraction", "≥ 90%"),
        ("<= 1e-05", "logits", "≤ 10⁻⁵"),
        ("in [0.6, 0.8]", "fraction; 95 % interval", "60% to 80%"),
    ],
)
def test_thresholds_are_seen_in_the_unit_of_the_value(text, unit, seen):
    assert Threshold.parse(text).written(unit) == seen


def test_a_claim_over_models_has_their_median_and_range(results):
    claims = Ledger("02_training", seed=3)
    record = claims.measure_models("02.final-loss", [0.02, 0.09, 0.03])
    assert (record["value"], record["ci"], record["n_seeds"]) == (0.03, [0.02, 0.09], 3)
    assert (record["verdict"], record["seed"]) == ("inconclusive", None)
    single = claims.measure_models("02.accuracy", [0.9])
    assert (single["ci"], single["n_seeds"], single["seed"]) == (None, 1, 3)


def test_a_claim_on_a_share_has_its_wilson_interval(results):
    record = Ledger("02_training").measure_share("02.accuracy", 92, 100)
    assert record["value"] == 0.92
    assert record["ci"] == pytest.approx([0.850, 0.959], abs=1e-3)
    hits = torch.arange(100) < 92
    assert Ledger("02_training").measure_share("02.accuracy", hits)["ci"] == record["ci"]
    none = Ledger("02_training").measure_share("02.accuracy", hits[:0])
    assert (none["value"], none["ci"][0]) == (0, 0)


def test_a_claim_on_means_has_the_interval_of_what_is_made_of_them(results):
    values = torch.stack([torch.arange(100.0) % 2, torch.ones(100)], 1)
    record = Ledger("02_training").measure_means("02.accuracy", values, torch.min)
    assert record["value"] == 0.5
    assert record["ci"] == pytest.approx([0.4, 0.6], abs=0.02)
    mean = Ledger("02_training").measure_means("02.accuracy", values[:, 0])
    assert (mean["value"], mean["ci"]) == (record["value"], record["ci"])


def test_a_claim_on_a_statistic_has_the_interval_over_samples_drawn_again(results):
    values = torch.arange(100.0) % 2
    record = Ledger("02_training").measure_resampled(
        "02.accuracy", lambda rows: values[rows].mean().item(), 100
    )
    assert record["value"] == 0.5
    assert record["ci"] == pytest.approx([0.4, 0.6], abs=0.02)
