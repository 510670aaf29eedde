"""Sealed folders of the cache, and recorded tensors that are read by name."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from addlib import store
from addlib.models.addition import ModelConfig
from addlib.store import CheckpointError, broken_seal, sealed
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from workflow.chapters import ROOT

MARKS = {"format": "test-1", "made_from": "a"}

SMALL = TrainConfig(
    task=AdditionTask(2), model=ModelConfig(width=24), steps=20, snapshot_every=20, batch_size=16
)


def test_a_clone_keeps_weights_beside_the_book(tmp_path, monkeypatch):
    monkeypatch.delenv("ADDLIB_CACHE", raising=False)
    assert store.cache_dir() == ROOT / "weights"
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "site-packages" / "addlib")
    assert store.cache_dir() == Path.home() / ".cache" / "addlib"
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path))
    assert store.cache_dir() == tmp_path


@pytest.fixture
def folder(tmp_path):
    with sealed(tmp_path / "things", MARKS) as temporary:
        (temporary / "a.txt").write_text("one")
        (temporary / "b.txt").write_text("two")
        assert not (tmp_path / "things").exists()
    return tmp_path / "things"


def test_a_sealed_folder_is_as_it_was_made(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt", "files.json"]
    assert broken_seal(folder, MARKS) is None
    os.utime(folder / "a.txt", (1, 1))  # only copied
    assert broken_seal(folder, MARKS) is None


def test_what_was_done_to_a_sealed_folder_is_told(folder):
    assert "another file" in broken_seal(folder, MARKS | {"made_from": "b"})
    (folder / "a.txt").write_text("eno")
    assert broken_seal(folder, MARKS) == "a.txt was altered: its checksum differs"
    (folder / "a.txt").write_text("three")
    assert broken_seal(folder, MARKS) == "a.txt has 5 bytes, not 3"
    (folder / "a.txt").unlink()
    assert broken_seal(folder, MARKS) == "a.txt is missing"
    (folder / "files.json").write_text("[]")
    assert broken_seal(folder, MARKS) == "its list of files is damaged"


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path):
    def fill():
        with sealed(tmp_path / "things", MARKS) as temporary:
            (temporary / "a.txt").write_text("one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------- histories of older and newer books
def stored(history, **changes):
    """What a book with other metrics would have recorded; None: it had no such metric."""
    tensors = history.tensors() | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, task=AdditionTask(3))])
def test_a_history_without_a_metric_is_read_with_nan_for_it(cache, config):
    whole = load_or_train(config, "cpu", progress=False)
    older = stored(whole.history, grad_norm=None, bucket_count=None, speed=torch.ones(20))
    config.folder.write("history.safetensors", older)
    run = load_or_train(config, "cpu", progress=False)
    assert run.record == whole.record  # not trained again
    assert torch.equal(run.history.digit_loss, whole.history.digit_loss)
    for name in ("grad_norm", "bucket_count"):
        missing = getattr(run.history, name)
        assert missing.isnan().all() and missing.shape == getattr(whole.history, name).shape
    assert not hasattr(run.history, "speed")


def test_a_metric_of_another_shape_is_refused(cache):
    whole = load_or_train(SMALL, "cpu", progress=False)
    SMALL.folder.write("history.safetensors", stored(whole.history, lr=torch.zeros(19)))
    with pytest.raises(CheckpointError, match="other names, shapes or types"):
        load_or_train(SMALL, "cpu", progress=False)
