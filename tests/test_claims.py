"""Claims: verdicts with known answers, records that are whole and checked, a ledger that refuses
what is not sound.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addlib import files
from addlib.claims import provenance
from addlib.claims.ledger import Claim, collect, table
from addlib.claims.provenance import revision
from addlib.claims.threshold import AtLeast, AtMost, Between, parse_threshold, verdict
from addlib.files import PACKAGE, results_dir

number = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("ADDLIB_SMOKE", raising=False)
    return tmp_path / "results"


def claim(name="02.final-loss", threshold=None, **changes):
    parts = dict(
        statement="The loss ends low.",
        source="chapter 02",
        metric="mean of the last 100 steps (nats)",
    )
    return Claim(
        id=name, chapter="02_training", threshold=threshold or AtMost(0.05), **parts | changes
    )


# ------------------------------------------------------------------------ verdicts
@pytest.mark.parametrize(
    ("value", "ci", "threshold", "expected"),
    [
        (0.05, None, AtMost(0.05), "holds"),
        (0.0501, None, AtMost(0.05), "fails"),
        (0.04, (0.03, 0.05), AtMost(0.05), "holds"),
        (0.04, (0.03, 0.06), AtMost(0.05), "inconclusive"),
        (0.06, (0.05, 0.08), AtMost(0.05), "inconclusive"),
        (0.07, (0.06, 0.08), AtMost(0.05), "fails"),
        (0.9, None, AtLeast(0.9), "holds"),
        (0.89, None, AtLeast(0.9), "fails"),
        (0.95, (0.89, 0.97), AtLeast(0.9), "inconclusive"),
        (0.85, (0.8, 0.89), AtLeast(0.9), "fails"),
        (0.7, None, Between(0.6, 0.8), "holds"),
        (0.6, (0.6, 0.8), Between(0.6, 0.8), "holds"),
        (0.7, (0.5, 0.75), Between(0.6, 0.8), "inconclusive"),
        (0.7, (0.5, 0.9), Between(0.6, 0.8), "inconclusive"),
        (0.5, (0.4, 0.59), Between(0.6, 0.8), "fails"),
        (0.9, (0.81, 0.95), Between(0.6, 0.8), "fails"),
    ],
)
def test_verdict_of_known_cases(value, ci, threshold, expected):
    assert verdict(value, ci, threshold) == expected


@given(st.lists(number, min_size=3, max_size=3), number)
def test_a_holding_interval_holds_at_each_of_its_points_and_a_failing_one_fails(points, limit):
    low, value, high = sorted(points)
    for threshold in (AtMost(limit), AtLeast(limit), Between(limit, limit + 1)):
        whole = verdict(value, (low, high), threshold)
        if whole != "inconclusive":
            assert {verdict(point, None, threshold) for point in (low, value, high)} == {whole}


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (AtMost(0.05), "<= 0.05"),
        (AtLeast(90), ">= 90"),
        (Between(-0.1, 2), "in [-0.1, 2]"),
        (AtMost(1e-9), "<= 1e-09"),
    ],
)
def test_text_form(threshold, text):
    assert str(threshold) == text
    assert parse_threshold(text) == threshold


@given(number, st.floats(0, 1e6))
def test_text_form_round_trip(low, width):
    for threshold in (AtMost(low), AtLeast(low), Between(low, low + width)):
        assert parse_threshold(str(threshold)) == threshold


@pytest.mark.parametrize("text", ["< 0.05", "<= ", "<= one", "in [1]", "in [2, 1]", ""])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        parse_threshold(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AtMost(math.nan),
        lambda: AtLeast(math.inf),
        lambda: Between(0.2, 0.1),
        lambda: Between(0, math.nan),
    ],
)
def test_impossible_thresholds_are_refused(make):
    with pytest.raises(ValueError):
        make()


# ------------------------------------------------------------------------- records
def test_measure_writes_the_record_it_returns(results):
    record = claim().measure(0.03, ci=(0.02, 0.04), n_seeds=3, device="cuda:0")
    assert json.loads((results / "claims" / "02.final-loss.json").read_text()) == record
    expected = dict(
        value=0.03,
        ci=[0.02, 0.04],
        threshold="<= 0.05",
        n_seeds=3,
        verdict="holds",
        device="cuda:0",
    )
    assert {key: record[key] for key in expected} == expected
    assert record["revision"] and record["smoke"] is False
    assert [path.name for path in (results / "claims").iterdir()] == ["02.final-loss.json"], (
        "a partial file stayed"
    )


def test_a_failing_claim_is_recorded(results):
    assert claim().measure(0.5)["verdict"] == "fails"
    assert collect()[0]["verdict"] == "fails"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(results, value):
    with pytest.raises(ValueError, match=r"02\.final-loss"):
        claim().measure(value)
    with pytest.raises(ValueError, match=r"02\.final-loss"):
        claim().measure(0.03, ci=(0.01, value))
    assert not results.exists()


@pytest.mark.parametrize("ci", [(0.04, 0.05), (0.01, 0.02), (0.05, 0.01)])
def test_an_interval_without_its_value_is_refused(results, ci):
    with pytest.raises(ValueError, match="does not hold the value"):
        claim().measure(0.03, ci=ci)


def test_no_seeds_are_refused(results):
    with pytest.raises(ValueError, match="n_seeds = 0"):
        claim().measure(0.03, n_seeds=0)


@pytest.mark.parametrize(
    "changes", [dict(statement=" "), dict(source=""), dict(metric=None), dict(threshold=0.05)]
)
def test_incomplete_claims_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        claim(**changes)


@pytest.mark.parametrize("name", ["2.loss", "03.loss", "02.Loss", "02.a/b", "02.", "loss"])
def test_ids_of_another_form_or_chapter_are_refused(name):
    with pytest.raises(ValueError, match="id must read like"):
        claim(name)


def test_a_write_that_fails_leaves_the_old_record_whole(results, monkeypatch):
    claim().measure(0.03)
    path = results / "claims" / "02.final-loss.json"
    before = path.read_text()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        claim().measure(0.5)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# -------------------------------------------------------------------------- ledger
def test_collect_sorts_and_writes(results):
    claim("02.zebra").measure(0.03)
    claim("02.aardvark", AtLeast(0.9)).measure(0.5)
    records = collect()
    assert [record["id"] for record in records] == ["02.aardvark", "02.zebra"]
    assert json.loads((results / "claims.json").read_text()) == records


def test_smoke_runs_leave_real_records_alone_and_are_not_collected(results, monkeypatch):
    claim().measure(0.03)
    monkeypatch.setenv("ADDLIB_SMOKE", "1")
    assert claim().measure(0.5)["smoke"] is True
    assert [record["value"] for record in collect()] == [0.03]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (dict(verdict="fails"), "'holds' does"),
        (dict(verdict="maybe"), "does not follow"),
        (dict(value=0.5), "'fails' does"),
        (dict(value="0.03"), "not a finite number"),
        (dict(value=True), "not a finite number"),
        (dict(value=math.nan), "not a finite number"),
        (dict(ci=[0.04, 0.05]), "does not hold"),
        (dict(ci=[0.03]), "does not hold"),
        (dict(threshold="about 0.05"), "must read"),
        (dict(statement=""), "'statement' is not a text"),
        (dict(n_seeds=0), "not a count"),
        (dict(id="02.other"), "named otherwise"),
        (dict(smoke=True), "smoke run"),
    ],
)
def test_collect_refuses_unsound_records(results, change, complaint):
    record = claim().measure(0.03)
    collect()
    ledger = (results / "claims.json").read_text()
    path = results / "claims" / "02.final-loss.json"
    path.write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=complaint) as error:
        collect()
    assert str(path) in str(error.value)
    assert (results / "claims.json").read_text() == ledger, "the old ledger must stay"


@pytest.mark.parametrize(
    "key", ["id", "value", "ci", "threshold", "n_seeds", "verdict", "device", "revision", "source"]
)
def test_collect_refuses_records_with_a_key_missing(results, key):
    record = claim().measure(0.03)
    del record[key]
    (results / "claims" / "02.final-loss.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"has no '{key}'"):
        collect()


@pytest.mark.parametrize("text", ["", '{"id": "02.fin', "[]", "3"])
def test_collect_refuses_files_that_hold_no_record_and_names_them_all(results, text):
    claim().measure(0.03)
    for name in ("02.a", "02.b"):
        (results / "claims" / f"{name}.json").write_text(text)
    with pytest.raises(ValueError, match=r"02\.a\.json(.|\n)*02\.b\.json"):
        collect()


def test_table_is_rounded_sorted_and_refuses_two_claims_of_one_id(results):
    records = [
        claim("02.zebra").measure(0.0312345),
        claim("02.aardvark", AtLeast(0.9)).measure(0.98765),
    ]
    shown = table(records)
    assert shown.index.tolist() == ["02.aardvark", "02.zebra"]
    assert shown["value"].tolist() == ["0.99", "0.031"]
    with pytest.raises(ValueError, match=r"share an id: 02\.zebra"):
        table([*records, records[0]])


def test_command_line_prints_the_score(results):
    claim("02.a").measure(0.03)
    claim("02.b").measure(0.5)
    claim("02.c").measure(0.04, ci=(0.02, 0.06))
    command = [sys.executable, "-m", "addlib.claims.ledger", "collect", "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert (done.returncode, done.stdout) == (0, "3 claims: 1 holds, 1 fails, 1 inconclusive\n"), (
        done.stderr
    )
    (results / "claims" / "02.a.json").write_text("{")
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 1
    assert "02.a.json" in done.stderr


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
    commit = repository(tmp_path, tracked=True)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "package")
    assert commit.startswith(revision())
    (tmp_path / "other.txt").write_text("2\n")
    assert revision().endswith("-dirty")


def test_revision_outside_git_or_in_another_s_repository_is_the_version(tmp_path, monkeypatch):
    repository(tmp_path / "theirs", tracked=False)
    for package in (tmp_path, tmp_path / "theirs" / "package"):
        monkeypatch.setattr(provenance, "PACKAGE", package)
        assert revision().startswith("addlib ")


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
