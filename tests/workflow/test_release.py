"""The files of a release: every model with its card, every chapter, and sums that fit."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.tasks.pairs import PairTask
from addlib.training import runs
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig
from workflow import release
from workflow.chapters import Results, WorkflowError, chapters

SMALL = {
    "sums": TrainConfig(
        AdditionTask(2), ModelConfig(width=24), steps=20, snapshot_every=20, batch_size=16
    ),
    "pairs": PairConfig(PairTask(5), epochs=20),
}


def test_a_release_has_models_with_cards_chapters_and_sums(cache, tmp_path, monkeypatch, wheel):
    monkeypatch.setattr(runs, "RUNS", SMALL)
    monkeypatch.setattr(release, "build_wheel", lambda folder: (folder / wheel.name).touch())
    results = Results(tmp_path / "results")
    target = tmp_path / "release"
    with pytest.raises(WorkflowError, match=r"not made yet: 01_setup, .*sums, pairs; `make book`"):
        release.release(results, target)
    assert not target.exists()

    for name in chapters():
        results.executed(name).parent.mkdir(parents=True, exist_ok=True)
        results.executed(name).write_text("{}")
    for config in SMALL.values():
        runs.load_or_train(config, "cpu", progress=False)
    files = release.release(results, target)
    names = {path.name for path in files}
    assert names >= {f"{name}.ipynb" for name in chapters()} | {wheel.name}
    assert names >= {f"{config.folder.path.name}.zip" for config in SMALL.values()}
    sums = dict(line.split("  ")[::-1] for line in (target / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == names
    for path in files:
        assert sums[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, config in SMALL.items():
        card = json.loads((target / f"{name}.json").read_text())
        for ending in (".pth", ".safetensors"):
            assert card["sha256"][f"{name}{ending}"] == sums[f"{name}{ending}"]
        state = torch.load(target / f"{name}.pth", weights_only=True)
        assert list(state["embed.W_E"].shape) == [
            card["shape"]["d_vocab"],
            card["shape"]["d_model"],
        ]
        assert card["training"]["steps"] == config.steps
        assert card["training"]["seed"] == config.seed
        assert 0 <= card["right"]["share"] <= 1
        assert ("carries" in card["limits"]) == (name == "sums")
