"""Trainings that somebody has released: fetched where they are right, else trained."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.training import released, runs
from addlib.training.addition import TrainConfig

CONFIG = TrainConfig(
    AdditionTask(2), ModelConfig(width=24), steps=20, snapshot_every=10, batch_size=16
)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served, and its address in the environment."""
    folder = tmp_path / "released"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(released.ADDRESS, f"http://localhost:{server.server_port}/")
        yield folder
        server.shutdown()


def packed_and_forgotten(shelf: Path) -> Path:
    """The released file of a run that is then no more in the cache."""
    folder = runs.load_or_train(CONFIG, "cpu", progress=False).config.folder
    file = released.pack(folder, shelf)
    shutil.rmtree(folder.path)
    return file


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*arguments: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(runs, "_train", train)


def test_a_released_run_is_not_trained_again(cache, shelf, monkeypatch):
    trained = runs.load_or_train(CONFIG, "cpu", progress=False)
    packed_and_forgotten(shelf)
    forbid_training(monkeypatch)
    (fetched,) = runs.load_or_train_all([CONFIG], "cpu", progress=False)
    for name, p in weights(trained.model).items():
        assert torch.equal(p, weights(fetched.model)[name])
    assert torch.equal(fetched.history.loss, trained.history.loss)
    assert fetched.snapshot(10).keys() == trained.snapshot(10).keys()


def test_what_nobody_released_is_trained_without_a_word(cache, shelf, capsys):
    assert runs.load_or_train(CONFIG, "cpu", progress=False).steps == 20
    assert capsys.readouterr().out == ""


def test_a_file_that_was_altered_is_not_used(cache, shelf, capsys):
    file = packed_and_forgotten(shelf)
    with zipfile.ZipFile(file) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    name = "weights-000020.safetensors"
    held[name] = held[name][:-1] + bytes([held[name][-1] ^ 1])
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in held.items():
            archive.writestr(member, content)
    assert not released.fetch(CONFIG.folder)
    assert "can't be used" in capsys.readouterr().out
    assert not list(CONFIG.folder.path.iterdir())


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_what_is_no_archive_is_not_used(cache, shelf, capsys, content):
    packed_and_forgotten(shelf).write_bytes(content)
    assert not released.fetch(CONFIG.folder)
    assert "it is trained instead" in capsys.readouterr().out


def test_a_member_that_leads_out_of_the_folder_is_left_alone(cache, shelf, tmp_path):
    file = packed_and_forgotten(shelf)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../weights-1.safetensors", "astray")
        archive.writestr("note.txt", "hello")
    assert released.fetch(CONFIG.folder)
    assert {path.name for path in CONFIG.folder.path.iterdir()} == {
        "run.json",
        "history.safetensors",
        *(f"weights-0000{steps}.safetensors" for steps in ("00", "10", "20")),
    }
    assert not list(tmp_path.rglob("weights-1.safetensors"))


def test_a_training_that_has_begun_goes_on(cache, shelf):
    packed_and_forgotten(shelf)
    begun = CONFIG.folder.path
    begun.mkdir(parents=True)
    (begun / "weights-000000.safetensors").write_bytes(b"mine")
    assert not released.fetch(CONFIG.folder)
    assert [path.name for path in begun.iterdir()] == ["weights-000000.safetensors"]


def test_without_an_address_nothing_is_asked(cache, monkeypatch):
    monkeypatch.delenv(released.ADDRESS, raising=False)
    monkeypatch.setattr(released, "_download", None)
    assert not released.fetch(CONFIG.folder)
