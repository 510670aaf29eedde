"""The days on which claims were registered are those of the history."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from addlib.claims.claim import Claim, declared
from addlib.claims.threshold import Threshold
from workflow import registration
from workflow.claims_page import DAYS_COMPARED, DAYS_NOT_COMPARED, ledger
from workflow.registration import Version, faults, read_version

FIRST = date(2026, 11, 1)
SECOND = date(2026, 11, 2)
THIRD = date(2026, 11, 3)


def claim(threshold: str, registered: date | None, changes: str = "") -> Claim:
    any_claim = next(iter(declared().values()))
    return replace(
        any_claim,
        id="02.loss",
        threshold=Threshold.parse(threshold),
        registered=registered,
        changes=changes,
    )


def complaints(now: Claim, *versions: tuple[date, str]) -> list[str]:
    history = [Version(day, {"02.loss": threshold}) for day, threshold in versions]
    return list(faults({"02.loss": now}, history, errata=""))


def test_the_book_has_registered_no_threshold_too_early():
    history = registration.history()
    if history is None:
        pytest.skip("this copy has no whole history: the days are the authors' word")
    assert len(history) > 5
    errata = (registration.ROOT / "book" / "errata.md").read_text(encoding="utf-8")
    assert list(faults(declared(), history, errata)) == []


def test_a_threshold_that_stood_since_its_day_passes():
    assert (
        complaints(claim("<= 1", SECOND), (FIRST, "<= 2"), (SECOND, "<= 1"), (THIRD, "<= 1")) == []
    )
    assert complaints(claim("<= 1", FIRST), (FIRST, "<= 3"), (FIRST, "<= 1")) == []
    assert complaints(claim("<= 1", None), (FIRST, "<= 2"), (THIRD, "<= 1")) == []
    assert complaints(claim("<= 1", FIRST)) == [], "not committed yet"


@pytest.mark.parametrize(
    "versions",
    [
        [(FIRST, "<= 2"), (SECOND, "<= 1")],
        [(SECOND, "<= 2")],
        [(FIRST, "<= 1"), (SECOND, "<= 2"), (THIRD, "<= 1")],
    ],
)
def test_a_threshold_that_changed_later_must_be_named(versions):
    assert "the threshold of 02.loss was <= 2" in complaints(claim("<= 1", FIRST), *versions)[-1]
    named = claim("<= 1", FIRST, "2026-11-03, was <= 2: nothing was at stake")
    assert not any("threshold of" in line for line in complaints(named, *versions))


def test_a_claim_is_not_registered_before_it_was_declared():
    (complaint,) = complaints(claim("<= 1", FIRST), (SECOND, "<= 1"))
    assert "registered on 2026-11-01, and was first declared on 2026-11-02" in complaint


def test_a_registered_claim_leaves_by_the_errata_only():
    history = [Version(FIRST, {"02.loss": "<= 1"}, frozenset({"02.loss"}))]
    assert "02.loss was registered" in next(faults({}, history, errata=""))
    assert list(faults({}, history, errata="| 02.loss | could not fail |")) == []


def test_a_version_is_read_as_it_stood():
    text = (
        "02_training:\n  02.loss:\n    threshold: '<= 1.50'\n    registered: 2026-11-02\n"
        "  02.steps:\n    threshold: 'in [1, 2]'\n03_none:\n"
    )
    assert read_version(text, FIRST) == Version(
        FIRST, {"02.loss": "<= 1.5", "02.steps": "in [1, 2]"}, frozenset({"02.loss"})
    )


def test_without_history_the_page_says_whose_word_it_is(monkeypatch, tmp_path):
    record = dict(
        id="01.a",
        chapter="01_setup",
        statement="S.",
        source="this chapter",
        metric="M",
        unit="ratio",
        threshold="<= 2",
        value=1.0,
        ci=None,
        n_seeds=1,
        seed=7,
        old=None,
        verdict="holds",
        outcome="holds",
        device="cpu",
        revision="r",
        kind="claim",
        registered="",
        seen="",
        models=None,
        confirmed=False,
    )
    if registration.history() is not None:
        assert DAYS_COMPARED in ledger([record], "", smoke=False)
    monkeypatch.setattr(registration, "ROOT", tmp_path)
    assert registration.history() is None
    assert DAYS_NOT_COMPARED in ledger([record], "", smoke=False)


def test_a_claim_may_move_to_another_id_with_its_threshold():
    was = Version(FIRST, {"02.old": "<= 1"}, frozenset({"02.old"}))
    now = Version(FIRST, {"02.loss": "<= 1"}, frozenset({"02.loss"}))

    def said(threshold, changes):
        moved = claim(threshold, FIRST, changes)
        return list(faults({"02.loss": moved}, [was, now], errata=""))

    assert said("<= 1", "2026-11-27, was 02.old: moved") == []
    assert len(said("<= 1", "")) == 1
    now = Version(FIRST, {"02.loss": "<= 2"}, frozenset({"02.loss"}))
    assert "whose threshold was <= 1" in said("<= 2", "2026-11-27, was 02.old: moved")[0]
