"""Models by other programs: what a real TransformerLens 2 wrote, the oldest form, and exports.

``run.sh`` makes the fixtures, and an environment in which exports are read by TransformerLens 2.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from addlib.analysis.answers import answer
from addlib.analysis.roles import find_roles
from addlib.models.addition import ModelConfig, answer_logits
from addlib.models.bridge import weights
from addlib.models.fast_addition import covers
from addlib.models.pairs import PairForward, pair_logits
from addlib.models.state_dicts import ModelFileError, classic_state_dict, read_state_dict
from addlib.store import sha256
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.pairs import PairTask
from addlib.training.addition import TrainConfig
from addlib.training.exported import READ_IT, export
from addlib.training.opened import _vocabularies, open_model
from addlib.training.pairs import PairConfig
from addlib.training.runs import load_or_train
from addlib.unknown import LeftOut

FIXTURES = Path(__file__).parent / "fixtures"

TRANSFORMER_LENS_2 = os.environ.get("ADDLIB_TRANSFORMER_LENS_2")

PIZZA = os.environ.get("ADDLIB_PIZZA")


def all_questions(task: AdditionTask) -> Questions:
    numbers = range(task.base**task.n_digits)
    return Questions.of(task, [(a, b) for a in numbers for b in numbers])


def projected(logits: torch.Tensor) -> torch.Tensor:
    """As in the script that wrote the fixtures."""
    random = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(0))
    return logits.double() @ random.double()


@torch.no_grad()
def in_reading_order(model, task) -> torch.Tensor:
    """Logits of all questions in double precision."""
    double = copy.deepcopy(model).double()
    return task.by_column(answer_logits(double, task, all_questions(task).tokens))


@pytest.fixture(scope="module")
def opened():
    return open_model(FIXTURES / "addition.pth")


# ------------------------------------------------------------------- equal to TransformerLens 2
def test_logits_are_those_of_transformer_lens_2(opened):
    """On all 1,296 questions."""
    assert opened.task == AdditionTask(2, base=6)
    expected = torch.load(FIXTURES / "addition_logits.pt", weights_only=True).double()
    logits = in_reading_order(load_or_train(opened, "cpu").model, opened.task)
    assert len(logits) >= 1000
    assert (projected(logits) - expected).abs().max() < 1e-5


def test_folded_and_unfolded_layernorm_agree(opened):
    """Folding centres the output matrix: logits differ by one number for each answer digit."""
    folded = open_model(FIXTURES / "addition_folded.pth")
    assert not folded.source.state.has_norm
    assert folded.model.normalization_type == "LN"  # found by trying
    difference = in_reading_order(load_or_train(folded, "cpu").model, opened.task)
    difference -= in_reading_order(load_or_train(opened, "cpu").model, opened.task)
    assert (difference - difference.mean(-1, keepdim=True)).abs().max() < 1e-5


def test_pair_logits_are_those_of_transformer_lens_2():
    config = open_model(FIXTURES / "grokking.pth")
    task = config.task
    assert task == PairTask(11, modular=True)
    run = load_or_train(config, "cpu")
    expected = torch.load(FIXTURES / "grokking_logits.pt", weights_only=True).double()
    with torch.no_grad():
        whole = pair_logits(copy.deepcopy(run.model).double(), task, task.pairs())
        short = PairForward(weights(run.model), config.model, task)(task.pairs())
    assert (projected(whole)[:, None] - expected).abs().max() < 1e-5
    assert (short - whole).abs().max() < 1e-4  # in single precision


def test_the_short_forward_covers_a_model_from_a_file(opened):
    run = load_or_train(opened, "cpu")
    assert run.checkpoint == sha256(FIXTURES / "addition.pth")
    assert covers(run.model.cfg)
    questions = all_questions(opened.task)
    answers = answer(run.model, questions)
    whole = answer_logits(run.model, opened.task, questions.tokens)
    assert (whole.argmax(-1) == answers.digits).all()
    assert answers.right.double().mean() > 0.98


def test_heads_in_another_order_have_the_same_roles(opened, tmp_path):
    state = torch.load(FIXTURES / "addition.pth", weights_only=True)
    for part in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"):
        name = f"blocks.0.attn.{part}"
        state[name] = state[name].flip(0)
    torch.save(state, tmp_path / "shuffled.pth")
    questions = all_questions(opened.task)
    found = []
    for path in (FIXTURES / "addition.pth", tmp_path / "shuffled.pth"):
        roles = find_roles(load_or_train(open_model(path), "cpu").model, questions)
        found.append([(role.name, round(role.share, 5)) for role in roles])
    assert found[0] == found[1]


# --------------------------------------------------------------------------- other forms
def test_the_oldest_form_is_read(tmp_path):
    """By its own formula: matrices multiply from the left, W_O is one matrix, = is predicted, too."""
    p, d_model, heads = 11, 12, 2
    state = torch.load(FIXTURES / "grokking.pth", weights_only=True)["checkpoints"][0]
    names = {f"blocks.0.{part}" for part in ("attn.mask", "attn.IGNORE")}
    old = {name: value for name, value in state.items() if name not in names}
    old = {name: value for name, value in old.items() if ".b_" not in name or ".mlp." in name}
    turned = ["embed.W_E", *(f"blocks.0.{part}" for part in ("mlp.W_in", "mlp.W_out"))]
    for name in [*turned, *(f"blocks.0.attn.W_{part}" for part in "QKV")]:
        old[name] = old[name].transpose(-1, -2)
    old["blocks.0.attn.W_O"] = old["blocks.0.attn.W_O"].flatten(0, 1).T
    old["unembed.W_U"] = torch.cat([old["unembed.W_U"], torch.ones(d_model, 1)], 1)
    old["blocks.0.attn.mask"] = torch.tril(torch.ones(3, 3))
    assert old["embed.W_E"].shape == (d_model, p + 1)
    torch.save(old, tmp_path / "oldest.pth")
    config = open_model(tmp_path / "oldest.pth")
    assert config.source.state.form == "oldest"

    pairs = config.task.pairs()
    old = {name: value.double() for name, value in old.items()}
    x = old["embed.W_E"].T[config.task.tokens(pairs)] + old["pos_embed.W_pos"]
    q, k, v = (torch.einsum("hfd,bpd->bhpf", old[f"blocks.0.attn.W_{part}"], x) for part in "QKV")
    scores = q[:, :, -1:] @ k.transpose(-1, -2) / (d_model / heads) ** 0.5
    z = (scores.softmax(-1) @ v)[:, :, 0].flatten(1)
    mid = x[:, -1] + z @ old["blocks.0.attn.W_O"].T
    neurons = (mid @ old["blocks.0.mlp.W_in"].T + old["blocks.0.mlp.b_in"]).relu()
    out = mid + neurons @ old["blocks.0.mlp.W_out"].T + old["blocks.0.mlp.b_out"]
    expected = out @ old["unembed.W_U"]
    with torch.no_grad():
        logits = pair_logits(load_or_train(config, "cpu").model.double(), config.task, pairs)
    assert (logits - expected[:, :p]).abs().max() < 1e-5


@pytest.fixture(scope="module")
def native(opened):
    """The book's own bridge with the fixture's weights."""
    return load_or_train(opened, "cpu").model


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_state_dicts_of_our_bridge_are_read_and_their_heads_found(native, opened, tmp_path, ending):
    path = tmp_path / f"native{ending}"
    state = {name: value.contiguous() for name, value in native.state_dict().items()}
    if ending == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    config = open_model(path)
    assert (config.source.state.form, config.model.n_heads) == ("native", 2)
    model = load_or_train(config, "cpu").model
    assert torch.equal(in_reading_order(model, opened.task), in_reading_order(native, opened.task))


def test_another_function_of_the_neurons_is_found(opened, tmp_path):
    """A model without ReLU runs through the library's forward; the short one does not cover it."""
    state = opened.source.state.with_shape(act_fn="gelu")
    assert not covers(state.build().cfg)


def test_a_run_folder_is_read_with_its_history(cache, tmp_path):
    small = TrainConfig(
        AdditionTask(2), ModelConfig(width=24), steps=20, snapshot_every=10, batch_size=16
    )
    pairs = PairConfig(PairTask(5), data_seed=7, epochs=20, snapshot_every=10)
    for own in (small, pairs):
        run = load_or_train(own, "cpu", progress=False)
        moved = tmp_path / "elsewhere" / own.folder.path.name
        moved.parent.mkdir(exist_ok=True)
        own.folder.path.rename(moved)
        config = open_model(moved)
        again = load_or_train(config, "cpu")
        assert again.snapshot_steps == run.snapshot_steps == [0, 10, 20]
        assert torch.equal(again.history.loss, run.history.loss)
        if own is pairs:  # the split that it was trained with
            assert all(map(torch.equal, config.sides(), pairs.sides()))
        assert again.file
        assert not run.file
        assert (
            config.parameters.items()
            >= {"n_heads" if own is small else "p": 3 if own is small else 5}.items()
        )


def test_a_file_has_no_training(opened):
    run = load_or_train(opened, "cpu")
    untrained = run.model_at(0)
    assert in_reading_order(untrained, opened.task).argmax(-1).unique().numel() > 1
    assert set(run.snapshot(run.steps)) == set(weights(run.model))
    for ask in (lambda: run.history.loss, lambda: run.snapshot_steps, lambda: run.snapshot(10)):
        with pytest.raises(LeftOut, match="nothing of its training"):
            ask()


# -------------------------------------------------------------------------------- exports
def test_a_file_does_not_tell_which_pairs_were_trained_on():
    with pytest.raises(LeftOut, match="nothing of its training"):
        open_model(FIXTURES / "grokking.pth").sides()


def test_an_exported_model_is_the_same_again(opened, native, tmp_path):
    export(load_or_train(opened, "cpu"), tmp_path, "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.json",
        "mine.pth",
        "mine.safetensors",
    ]
    for ending in (".pth", ".safetensors"):
        config = open_model(tmp_path / f"mine{ending}")
        model = load_or_train(config, "cpu").model
        difference = in_reading_order(model, opened.task) - in_reading_order(native, opened.task)
        assert difference.abs().max() < 1e-6


def test_an_export_has_the_names_and_shapes_of_transformer_lens_2(native):
    theirs = torch.load(FIXTURES / "addition.pth", weights_only=True)
    ours = classic_state_dict(native)
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


@pytest.mark.skipif(not TRANSFORMER_LENS_2, reason="ADDLIB_TRANSFORMER_LENS_2 names no python")
def test_transformer_lens_2_reads_an_export(native, opened, tmp_path):
    questions = all_questions(opened.task).tokens
    torch.save(classic_state_dict(native), tmp_path / "model.pth")
    torch.save(questions, tmp_path / "questions.pt")
    script = Path(__file__).with_name("with_transformer_lens_2.py")
    files = [tmp_path / "model.pth", tmp_path / "questions.pt"]
    subprocess.run([TRANSFORMER_LENS_2, script, "read", *files], check=True)
    theirs = torch.load(tmp_path / "logits.pt", weights_only=True)
    with torch.no_grad():
        ours = copy.deepcopy(native).double()(questions)
    assert (ours - theirs).abs().max() < 1e-5


def test_the_card_s_five_lines_need_torch_alone(opened, native, tmp_path):
    """The lines in the documentation, run where the book is not."""
    export(load_or_train(opened, "cpu"), tmp_path, "mine")
    lines = READ_IT.format(name="mine")
    assert "addlib" not in lines
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shapes = {name: tuple(value.shape) for name, value in classic_state_dict(native).items()}
    assert done.stdout == f"{shapes}\n"


# ------------------------------------------------------------------------------- refusals
class Code:
    """What a pickle with code holds."""

    def __reduce__(self):
        return (os.system, ("echo gone wrong",))


def state_with(**changes):
    state = torch.load(FIXTURES / "addition.pth", weights_only=True)
    for name, value in changes.items():
        state[name.replace("__", ".")] = value
    return state


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def sentence(path: Path) -> str:
    with pytest.raises(ModelFileError) as refused:
        open_model(path)
    text = str(refused.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_what_is_no_whole_file_is_refused(tmp_path):
    whole = (FIXTURES / "addition.pth").read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "is damaged, perhaps cut off" in sentence(cut)
    empty = tmp_path / "empty.pt"
    empty.touch()
    assert "is damaged" in sentence(empty)
    text = tmp_path / "text.pt"
    text.write_text("no model")
    assert "is damaged" in sentence(text)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    assert "is damaged" in sentence(cut)
    assert "must end in .pth" in sentence(saved(tmp_path / "model.bin", {}))


def test_what_is_no_file_is_refused(tmp_path):
    assert "is not there" in sentence(tmp_path / "nothing.pth")
    link = tmp_path / "link.pth"
    link.symlink_to(tmp_path / "gone.pth")
    assert "is a link to" in sentence(link)
    (tmp_path / "folder").mkdir()
    assert "is a folder without a run.json" in sentence(tmp_path / "folder")
    (tmp_path / "folder" / "run.json").write_text("{}")
    assert "does not describe a run" in sentence(tmp_path / "folder")
    large = tmp_path / "large.pth"
    with large.open("wb") as file:
        file.truncate(2_000_000_000)
    assert "has 2.0 GB and is not opened" in sentence(large)


def test_a_pickle_that_wants_code_is_refused_and_never_run(tmp_path, capfd):
    text = sentence(saved(tmp_path / "code.pth", {"embed.W_E": Code()}))
    assert "wants to run code (posix.system)" in text
    assert "gone wrong" not in capfd.readouterr().out
    # the notebook of the grokking demo saves its configuration's class with the weights
    text = sentence(saved(tmp_path / "class.pth", {"model": {}, "config": AdditionTask()}))
    assert "wants to run code (addlib.tasks.addition.AdditionTask)" in text


def test_contents_of_another_form_are_refused(tmp_path):
    def refused(state: object) -> str:
        return sentence(saved(tmp_path / "model.pth", state))

    assert "holds no state dict: a dict of lr" in refused({"lr": 0.1})
    assert "holds no state dict: Tensor" in refused(torch.zeros(3))
    assert "its first names are" in refused({"layers.0.weight": torch.zeros(3)})
    assert "holds names that no such model has: extra" in refused(state_with(extra=torch.zeros(2)))
    nan = torch.full((9, 20), float("nan"))
    assert "pos_embed.W_pos has NaN" in refused(state_with(pos_embed__W_pos=nan))
    wrong = refused(state_with(blocks__0__mlp__W_in=torch.zeros(20, 7)))
    assert "has shape" in wrong
    assert "must be" in wrong
    whole = state_with(unembed__W_U=torch.zeros(20, 8, dtype=torch.int64))
    assert "must be a tensor of real numbers, not torch.int64" in refused(whole)
    for name in ("blocks.0.attn.W_Q", "blocks.0.mlp.W_in"):
        number = {name.replace(".", "__"): torch.tensor(1.0)}
        assert "has shape ()" in refused(state_with(**number))
    empty = torch.zeros(0, 20, 10)
    assert "must be of at least one number" in refused(state_with(blocks__0__attn__W_Q=empty))
    sparse = torch.zeros(9, 20).to_sparse()
    assert "real numbers, not torch.sparse" in refused(state_with(pos_embed__W_pos=sparse))
    state = state_with()
    del state["blocks.0.attn.W_K"]
    assert "lacks blocks.0.attn.k.weight" in refused(state)
    state = state_with(unembed__b_U=torch.arange(8.0))
    state["unembed.W_U"] = torch.zeros(20, 8)
    assert "b_U can't be written as a shift" in refused(state)


def test_a_model_that_does_not_add_is_refused_with_what_was_found(opened, tmp_path):
    state = state_with(unembed__W_U=state_with()["unembed.W_U"].flip(1))
    text = sentence(saved(tmp_path / "model.pth", state))
    assert "does not add: read as 2 digits in base 6 with 1 layer, 2 heads of width 10" in text
    assert "of its questions right" in text


def test_variants_of_public_models_are_named(tmp_path):
    state = state_with()
    state["pos_embed.W_pos"] = torch.zeros(10, 20)
    state["embed.W_E"] = torch.zeros(15, 20)
    state["unembed.W_U"] = torch.zeros(20, 15)
    state["unembed.b_U"] = torch.zeros(15)
    assert "a sign before the answer" in sentence(saved(tmp_path / "model.pth", state))


def with_tokens(theirs: list[int], count: int) -> dict[str, torch.Tensor]:
    """The fixture as if its tokens were these of so many; the others are as loud."""
    state = state_with()
    columns = torch.tensor(theirs)
    loud = torch.full((count, 20), 0.5)
    state["embed.W_E"] = loud.index_copy(0, columns, state["embed.W_E"])
    state["unembed.W_U"] = loud.T.index_copy(1, columns, state["unembed.W_U"])
    state["unembed.b_U"] = torch.zeros(count).index_copy(0, columns, state["unembed.b_U"])
    return state


@pytest.mark.parametrize("signs", [(6, 8), (6, 7)])
def test_tokens_of_other_signs_are_left_aside(opened, native, tmp_path, monkeypatch, signs):
    """As in public models that know a minus sign, but add: of two orders the better one is taken."""
    monkeypatch.setattr("addlib.training.opened.OTHER_SIGNS", {9: [(6, 6, 8), (6, 6, 7)]})
    config = open_model(saved(tmp_path / "model.pth", with_tokens([*range(6), *signs], 9)))
    assert config.task == opened.task
    assert "right (1 of its 9 tokens are not used)" in config.source.words
    logits = in_reading_order(load_or_train(config, "cpu").model, config.task)
    assert (logits - in_reading_order(native, config.task)).abs().max() < 1e-4


def test_public_models_with_thirteen_or_fifteen_tokens_are_read_in_base_ten(tmp_path):
    for count, signs in ((13, [(10, 12), (10, 11)]), (15, [(10, 12)])):
        state = with_tokens(list(range(8)), count)
        read = _vocabularies(read_state_dict(saved(tmp_path / "model.pth", state)))
        assert [base for base, _ in read] == [count - 2, *(10 for _ in signs)]
        for (_, known), pair in zip(read[1:], signs, strict=True):
            assert torch.equal(
                known.weights["embed.weight"], state["embed.W_E"][[*range(10), *pair]]
            )


def test_a_model_that_predicts_digits_alone_is_read(opened, native, tmp_path):
    """As the first models of sums do: no + and no = among its outputs."""
    state = state_with()
    state["unembed.W_U"] = state["unembed.W_U"][:, :6].contiguous()
    state["unembed.b_U"] = state["unembed.b_U"][:6]
    config = open_model(saved(tmp_path / "model.pth", state))
    assert "it predicts digits alone" in config.source.words
    logits = in_reading_order(load_or_train(config, "cpu").model, config.task)
    expected = in_reading_order(native, config.task)[..., :6]
    assert (logits[..., :6] - expected).abs().max() < 1e-4
    assert (logits[..., 6:] - expected.mean(-1, keepdim=True)).abs().max() < 1e-4


def test_small_files_that_stand_for_large_tensors_are_refused(tmp_path):
    repeated = {"embed.W_E": torch.zeros(1).expand(10**6, 10**6)}
    assert "holds tensors of 4000.0 GB" in sentence(saved(tmp_path / "expanded.pth", repeated))
    archive = zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED)
    with archive as packed, packed.open("model/data/0", "w") as member:
        for _ in range(6):
            member.write(bytes(100_000_000))
    assert "has 0.6 GB and is not opened" in sentence(tmp_path / "packed.pth")


def test_a_name_that_is_too_long_is_refused(tmp_path):
    assert "can't be read: File name too long" in sentence(tmp_path / f"{'x' * 300}.pth")


def test_a_list_of_states_is_read_by_its_last_one(tmp_path):
    """As in files of the paper on grokking, with states of the whole training."""
    states = [{"embed.W_E": torch.zeros(2)}, state_with()]
    content = {"state_dicts": states, "train_losses": [1.0, 0.1], "epochs": [0, 100]}
    assert open_model(saved(tmp_path / "run.pth", content)).task == AdditionTask(2, base=6)


def test_pairs_with_layernorm_or_two_positions_are_refused(tmp_path):
    state = torch.load(FIXTURES / "grokking.pth", weights_only=True)["checkpoints"][0]
    state["pos_embed.W_pos"] = state["pos_embed.W_pos"][:2]
    assert "has 2 positions" in sentence(saved(tmp_path / "two.pth", state))
    state = torch.load(FIXTURES / "grokking.pth", weights_only=True)["checkpoints"][0]
    state["ln_final.w"] = torch.ones(12)
    state["ln_final.b"] = torch.zeros(12)
    assert "no normalisation" in sentence(saved(tmp_path / "norm.pth", state))


@pytest.mark.skipif(not PIZZA, reason="ADDLIB_PIZZA names no folder with the pizza study's models")
def test_models_of_the_pizza_study_are_refused_by_name():
    files = sorted(Path(PIZZA).glob("*.pt"))
    assert files
    for path in files:
        assert "as in the pizza study" in sentence(path)


def test_fixtures_are_small():
    assert sum(path.stat().st_size for path in FIXTURES.iterdir()) <= 100_000


def test_a_wrong_axis_would_be_seen(opened):
    """The check on logits notices heads that are laid side by side in another order."""
    state = read_state_dict(FIXTURES / "addition.pth")
    mixed = dict(state.weights)
    name = "blocks.0.attn.q.weight"
    mixed[name] = mixed[name].unflatten(0, (2, 10)).transpose(0, 1).flatten(0, 1)
    expected = torch.load(FIXTURES / "addition_logits.pt", weights_only=True).double()
    logits = in_reading_order(replace(state, weights=mixed).build(), opened.task)
    assert (projected(logits) - expected).abs().max() > 1e-2
