"""A claim over models of several seeds: one verdict, and whether it is confirmed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.claims.over_seeds import OverSeeds, over_seeds

CLAIM = replace(
    declared()["04.off-by-one"], registered=date(2026, 11, 26), seen="seeds 1, 2 and 7: a first run"
)

VALUES = {1: 0.9, 2: 0.8, 3: 0.7}


def over(verdicts: dict[int, str], day: int = 30) -> OverSeeds:
    return OverSeeds(dict.fromkeys(verdicts, 0.9), verdicts, date(2026, 11, day))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds"] * 3, "holds"),
        (["holds"] * 4 + ["fails"], "holds"),
        (["fails"] * 4 + ["inconclusive"], "fails"),
        (["holds"] * 3 + ["fails"] * 2, "differs"),
        (["holds", "holds", "fails"], "differs"),
    ],
)
def test_four_models_in_five_speak_for_all(verdicts, expected):
    assert over(dict(enumerate(verdicts))).verdict == expected


def test_the_models_are_counted_in_words():
    assert over({1: "holds", 2: "holds"}).counted == "holds in 2 of 2 seeds"
    mixed = over({1: "fails", 2: "holds", 3: "inconclusive"})
    assert mixed.counted == "holds in 1 of 3 seeds, fails in 1, is inconclusive in 1"


def test_only_seeds_that_nobody_had_looked_at_confirm():
    assert CLAIM.seeds_seen == {1, 2, 7}
    assert over({1: "fails", 3: "holds", 4: "holds"}).confirms(CLAIM)
    assert not over({1: "holds", 3: "holds", 4: "fails"}).confirms(CLAIM)
    assert not over({1: "holds", 2: "holds"}).confirms(CLAIM)


def test_a_threshold_that_came_later_is_not_confirmed():
    assert not over({3: "holds"}, day=26).confirms(CLAIM)
    assert not over({3: "holds"}).confirms(replace(CLAIM, registered=None))


def test_a_seed_without_a_value_had_a_model_that_lacks_it():
    entry = dict(
        chapter=CLAIM.chapter,
        threshold=str(CLAIM.threshold),
        seeds=[1, 3],
        values=[0.99, 0.98],
        verdicts=["holds", "holds"],
    )
    other = entry | {"seeds": [1, 2, 3], "values": [1, 1, 1], "verdicts": ["holds"] * 3}
    record = {"date": "2026-11-30", "claims": {CLAIM.id: entry, "04.other": other}}
    found = over_seeds(CLAIM, record)
    assert found is not None
    assert found.values == {1: 0.99, 2: None, 3: 0.98}
    assert found.verdicts[2] == "fails"
    elsewhere = other | {"chapter": "05_attention_staircases"}
    alone = over_seeds(CLAIM, record | {"claims": {CLAIM.id: entry, "05.other": elsewhere}})
    assert alone is not None
    assert alone.verdict == "holds"
    assert over_seeds(CLAIM, record | {"claims": {}}) is None


def test_one_stored_model_is_no_evidence_over_seeds():
    """All runs measured it: a model that is not trained anew with each seed."""
    entry = dict(chapter=CLAIM.chapter, threshold=str(CLAIM.threshold))
    entry |= dict(seeds=[129000], values=[0.5], verdicts=["holds"])
    assert over_seeds(CLAIM, {"date": "2026-11-30", "claims": {CLAIM.id: entry}}) is None


def test_the_record_has_no_claim_on_a_model_that_all_runs_share():
    """Its value would be the same in all of them, to the last digit; shares of sums may be 0 or 1."""
    for id, entry in stored.read("seeds")["claims"].items():
        shared = len(entry["values"]) > 1 and len(set(entry["values"])) == 1
        assert not shared or entry["values"][0] in (0, 1), id


@pytest.mark.parametrize("id", ["04.off-by-one", "11.generalises"])
def test_every_record_over_seeds_is_asked(id):
    found = stored.on_other_seeds(declared()[id])
    assert found is not None
    assert len(found.verdicts) >= 3


def test_a_record_that_is_made_later_is_asked_too(monkeypatch):
    """Of several that have the claim, the first one; a record of another threshold says nothing."""
    claim = declared()["08.second-axis"]
    entry = dict(chapter=claim.chapter, threshold=str(claim.threshold), seeds=[1, 2])
    entry |= dict(values=[0.9, 0.1], verdicts=["holds", "fails"])
    made = {"seeds": {}, "carry_5000": {claim.id: entry}}
    records = [{"date": "2026-11-30", "claims": claims} for claims in made.values()]
    monkeypatch.setattr(stored, "read_those", lambda *names: records)
    found = stored.on_other_seeds(claim)
    assert found is not None
    assert found.verdicts == {1: "holds", 2: "fails"}
    assert not found.agree
    made["seeds"][claim.id] = entry | {"verdicts": ["holds", "holds"]}
    assert stored.on_other_seeds(claim).agree
    made["seeds"][claim.id] = entry | {"threshold": ">= 0.123"}
    assert not stored.on_other_seeds(claim).agree


def test_the_others_are_counted_without_a_model():
    models = over({1: "holds", 2: "fails", 3: "holds"})
    others = models.without(2)
    assert others is not None
    assert others.agree
    assert others.values.keys() == {1, 3}
    assert models.without(None) == models
    assert over({2: "fails"}).without(2) is None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("", set()),
        ("seed 129000", {129000}),
        ("seed 1, then seeds 3 and 4 (map of shares, 5000 steps)", {1, 3, 4}),
        ("the paper's figure 3", set()),
    ],
)
def test_seeds_are_read_from_what_was_seen(seen, expected):
    assert replace(CLAIM, seen=seen).seeds_seen == expected
