"""The study of a second language model: its parts run, and a stopped run goes on where it was."""

import json
import sys
from pathlib import Path

import pytest
import torch

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.llm.load import RANDOM, load_llm
from addlib.patching.agreement import EXACT, Agreement

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import second_llm

    return second_llm


def test_every_part_runs_and_can_be_written(study):
    llm = load_llm(RANDOM, device="cpu")
    few = {
        "adding": {"count": 8},
        "other_forms": {"count": 8},
        "neurons": {"pairs": 6, "typed": 20, "tested": 40},
        "digit_swaps": {"sums": 60, "count": 10},
        "sights": {"twin_count": 6},
        "overflowing": {"count": 6},
        "carry": {"count": 16, "fewest": 2},
        "estimates": {"count": 4},
    }
    for part in study.PARTS.values():
        whole = getattr(part, "func", part)
        results = part(llm, **few.get(whole.__name__, {}))
        json.dumps(results, allow_nan=False)
        for name, entry in results.items():
            if isinstance(entry, dict) and "interval" in entry:
                low, high = entry["interval"]
                assert low <= entry["value"] <= high, name
                assert entry["n"] > 0


def test_a_model_that_cannot_add_has_no_carry_to_exchange(study, monkeypatch):
    llm = load_llm(RANDOM, device="cpu")
    monkeypatch.setattr(type(llm), "is_random", False)
    results = study.carry(llm, 8)
    assert results["usable"] < 8
    assert "at =" not in results


def test_a_stopped_run_goes_on(study, monkeypatch):
    calls = []
    written = {}

    def part(name):
        def measure(llm):
            calls.append(name)
            if name == "first: b" and calls.count(name) == 1:
                raise KeyboardInterrupt
            return {"n": len(calls)}

        return measure

    def read(name):
        if not written:
            raise ValueError
        return written

    def write(name, made_by, measured_on, content):
        written.update(json.loads(json.dumps(content)))

    names = ["second: a", "first: b", "first: c"]
    monkeypatch.setattr(study, "PARTS", {name: part(name) for name in names})
    monkeypatch.setattr(study, "MODELS", {"first": RANDOM, "second": RANDOM})
    monkeypatch.setattr(stored, "clean_revision", lambda: "r")
    monkeypatch.setattr(stored, "read", read)
    monkeypatch.setattr(stored, "write", write)
    monkeypatch.setattr(sys, "argv", ["second_llm.py", "--device", "cpu"])
    with pytest.raises(KeyboardInterrupt):
        study.main()
    assert list(written["parts"]) == ["second: a"]
    study.main()
    assert calls == ["second: a", "first: b", "first: b", "first: c"]
    assert list(written["parts"]) == names
    monkeypatch.setattr(sys, "argv", ["second_llm.py", "--device", "cpu", "second: a"])
    study.main()
    assert calls[-1] == "second: a"
    assert written["parts"]["second: a"]["weights"]["name"] == "a tiny Qwen2"


def test_a_lead_is_that_of_the_kind_where_it_is_least():
    exact = torch.tensor([[1.0, 1], [2, 2], [4, 4]])
    off = torch.tensor([[1.0, 1], [5, 5], [4, 4]])
    effects = {EXACT: {"z": exact, "v": exact}}
    effects |= {"a": {"z": exact, "v": exact}, "b": {"z": off, "v": exact}}
    agreement = Agreement(effects)
    assert agreement.lead("a", "b", ["z", "v"]) == pytest.approx(0)
    assert agreement.lead("a", "b", ["z"]) == pytest.approx(1 - agreement.fit("b", "z"))


def test_the_record_names_its_weights_and_has_what_the_claims_ask():
    for record in stored.read_those("second_llm"):
        for name, part in record["parts"].items():
            assert len(part["weights"]["identity"]) == 64, name
            assert not part["revision"].endswith("-dirty")
    assert any(id.startswith("15.second-model-") for id in declared())
