"""The second language model: each claim finds its result, and stands beside the first model's."""

import pytest

from addlib.claims.claim import declared
from addlib.claims.ledger import Ledger
from addlib.claims.second_model import (
    RECORDED,
    beside,
    entry,
    measure_second,
    sums_by_digit,
    weights_of,
)
from addlib.claims.stored import read_those

CHAPTER = "15_llm_addition"

WEIGHTS = {"name": "Small", "place": "here", "form": "SHA-256", "identity": "a" * 64}


def record(results):
    """A record of these results by part, of the second model."""
    parts = {f"second: {part}": {"weights": WEIGHTS, "results": of} for part, of in results.items()}
    first = {"gradient, z": {"value": 0.25, "interval": [0.125, 0.5]}}
    return {"parts": parts | {"first: estimates": {"weights": WEIGHTS, "results": first}}}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path))
    return Ledger(CHAPTER)


def test_every_claim_about_the_second_model_has_a_result_and_the_first_models_threshold():
    of_chapter = [id for id in declared() if id.startswith("15.second-model-")]
    assert set(of_chapter) == set(RECORDED)
    for id, (_, _, first) in RECORDED.items():
        assert not first or str(declared()[id].threshold) == str(declared()[first].threshold)
    for recorded in read_those("second_llm"):
        for part, result, _ in RECORDED.values():
            if part not in ("carry", "sights"):  # what a model that can't add lacks
                assert "value" in entry(recorded, "second", part, result), result


def test_values_intervals_and_weights_come_from_the_record(ledger):
    typed = {"typed": {"value": 0.75, "interval": [0.5, 0.875], "n": 8}}
    made = record({"neurons": typed, "carry": {"usable": 3}})
    measure_second(ledger, made)
    by_id = {one["id"]: one for one in ledger.records}
    asked = [id for id, (part, _, _) in RECORDED.items() if part in ("neurons", "carry")]
    assert list(by_id) == asked  # the others' parts are not there: not run
    measured = by_id.pop("15.second-model-typed")
    assert (measured["value"], measured["ci"]) == (0.75, [0.5, 0.875])
    for one in by_id.values():
        assert (one["value"], one["verdict"]) == (None, "fails")
        assert "Small" in one["weights"]
    assert measured["weights"] == weights_of(made, "second: neurons")
    assert "Small" in measured["weights"]


def test_both_models_stand_side_by_side(ledger):
    typed = {"typed": {"value": 0.75, "interval": [0.5, 0.875], "n": 8}}
    estimates = {"gradient, z": {"value": 0.9, "interval": [0.85, 0.95], "n": 8}}
    made = record({"neurons": typed, "estimates": estimates})
    ledger.measure("15.late-neurons-typed", 0.25, (0.125, 0.5))
    measure_second(ledger, made)
    rows = beside(ledger, made)
    assert len(rows) == len(RECORDED)
    rows = rows.set_index(rows.index.map(dict(enumerate(RECORDED))))
    row = rows.loc["15.second-model-typed"]
    assert row["first model"].startswith("25")
    assert row["second model"].startswith("75")
    assert row["second model's verdict"].endswith("holds")
    assert rows.loc["15.second-model-gradient-ranks-heads"]["first model"].startswith("0.25")
    absent = rows.loc["15.second-model-no-carry-at-equals"]
    assert absent["second model"] == "–"
    assert absent["second model's verdict"].endswith("fails: could not be asked")


def test_sums_stand_digit_by_digit_beside_one_digit_of_look_ahead():
    adding = {"value": 0.5, "n": 8, "digits": [0.5, 1.0], "one digit of look-ahead": [1.0, 1.0]}
    made = record({"adding": {"2 digits": adding}})
    made["parts"]["first: adding"] = made["parts"]["second: adding"]
    rows = sums_by_digit(made)
    assert rows["model"].tolist() == ["first", "second"]
    assert rows["sums"].tolist() == ["8 of 2 digits"] * 2
    assert rows["digit by digit"].tolist() == ["50%, 100%"] * 2
    assert rows["one digit of look-ahead"].tolist() == ["100%, 100%"] * 2
