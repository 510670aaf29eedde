"""The exported file computes what the model computes, with the same parts taken out, or is refused."""

import json

import pytest
import torch

from addlib.analysis.ablation import Ablation, hooks
from addlib.analysis.roles import answer_patterns
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions
from addlib.training.addition import TrainConfig
from workflow.live import export_folder, model_file, page_data
from workflow.live.model_file import (
    STAND_INS,
    ExportError,
    Runner,
    export,
    mean_activations,
    onnx_bytes,
    references,
)

pytestmark = pytest.mark.depends_on()

SHAPES = {
    "one layer": (ModelConfig(n_heads=3, width=24), AdditionTask(3)),
    "two layers, units first": (
        ModelConfig(n_layers=2, n_heads=2, width=16),
        AdditionTask(2, answer_order="lsd"),
    ),
    "no MLP": (ModelConfig(n_heads=2, width=16, attn_only=True), AdditionTask(2)),
}


def built(shape):
    """A random model whose attention is not nearly uniform, with its configuration."""
    config, task = SHAPES[shape]
    model = build_model(config, task, seed=1)
    with torch.no_grad():
        for p in weights(model).values():
            p.mul_(2).add_(
                0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
            )
    return model, config, task


def asked(task, count=60, seed=1):
    return uniform_questions(task, count, torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def few_references(monkeypatch):
    """Fewer questions behind the means, for the export and for the hooks alike."""
    monkeypatch.setattr(model_file, "references", lambda task: references(task, 50))


@pytest.fixture(scope="module", params=SHAPES)
def exported(request):
    """A model with its configuration and task, and its file."""
    model, config, task = built(request.param)
    means = mean_activations(model, config, references(task, 50))
    return model, config, task, onnx_bytes(model, config, task, means)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_gives_the_models_logits_and_patterns(shape):
    model, config, task = built(shape)
    torch.set_float32_matmul_precision("medium")
    used, whole = export(model, config, task, asked(task, 500))
    assert torch.get_float32_matmul_precision() == "highest"
    assert whole.bits == 32
    assert whole.questions == 500
    assert whole.distance < 1e-4
    assert len(used.data) <= len(whole.data)
    logits, patterns = Runner(whole.data)(questions := asked(task))
    with torch.no_grad():
        assert torch.allclose(logits, answer_logits(model, task, questions.tokens), atol=1e-4)
    for layer in range(config.n_layers):
        assert torch.allclose(
            patterns[:, layer], answer_patterns(model, questions, layer), atol=1e-5
        )


def ways_out(config, task):
    """Switches, and the ablations that they stand for, one by one and several together."""
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            on = torch.ones(config.n_layers, config.n_heads, dtype=torch.bool)
            on[layer, head] = False
            yield {"heads": on}, [dict(component="z", head=head, layer=layer)]
        if not config.attn_only:
            on = torch.ones(config.n_layers, dtype=torch.bool)
            on[layer] = False
            yield {"mlps": on}, [dict(component="mlp_out", layer=layer)]
    for position in (0, task.answer_positions[1]):
        on = torch.ones(task.n_ctx, dtype=torch.bool)
        on[position] = False
        per_head = [
            dict(component="z", head=head, layer=layer, positions=(position,))
            for layer in range(config.n_layers)
            for head in range(config.n_heads)
        ]
        if position:  # nothing reads what the last layer does at the question's positions
            yield {"positions": on}, per_head
        last = torch.ones(config.n_layers, config.n_heads, dtype=torch.bool)
        last[-1, 0] = False
        yield (
            {"positions": on, "heads": last},
            [*per_head, dict(component="z", head=0, layer=config.n_layers - 1)],
        )


@pytest.mark.parametrize("stand_in", range(len(STAND_INS)))
def test_switches_do_what_the_ablations_do(exported, stand_in):
    model, config, task, data = exported
    run, questions = Runner(data), asked(task)
    sets = [*references(task, 50), None]
    method = "zero" if sets[stand_in] is None else "mean"
    untouched = run(questions)[0]
    for switches, parts in ways_out(config, task):
        out = [Ablation(**part, method=method) for part in parts]
        with torch.no_grad(), model.hooks(fwd_hooks=hooks(model, out, sets[stand_in])):
            expected = answer_logits(model, task, questions.tokens)
        logits = run(questions, stand_in=stand_in, **switches)[0]
        assert torch.allclose(logits, expected, atol=1e-4), switches
        assert not torch.allclose(logits, untouched, atol=1e-3), switches


def scaled(name, factor):
    """What multiplies one weight of a model's."""
    return lambda values: values[name].mul_(factor)


def heads_swapped(values):
    """The first head reads with what belongs to the last."""
    values["blocks.0.attn.q.weight"] = values["blocks.0.attn.q.weight"].roll(8, 0)


BREAKAGES = {
    "a weight": scaled("blocks.0.attn.v.weight", 1.1),
    "a gain": scaled("ln_final.weight", 1.01),
    "heads swapped": heads_swapped,
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_export_is_refused(breakage, monkeypatch):
    model, config, task = built("one layer")

    def broken(model):
        values = {name: value.detach().clone() for name, value in weights(model).items()}
        BREAKAGES[breakage](values)
        return values

    monkeypatch.setattr(model_file, "weights", broken)
    with pytest.raises(ExportError, match="not this model"):
        export(model, config, task, asked(task, 200))


def test_sixteen_bits_are_used_only_where_answers_agree(monkeypatch):
    model, config, task = built("one layer")
    monkeypatch.setattr(model_file, "AGREEMENT", 0.5)
    used, whole = export(model, config, task, asked(task, 200))
    assert used.bits == 16
    assert len(used.data) < 0.7 * len(whole.data)
    assert used.distance > whole.distance

    def two_in_a_thousand(data, bits, questions, expected):
        return model_file.Exported(data, bits, 1000, 998 if bits == 16 else 1000, 0.0)

    monkeypatch.setattr(model_file, "compare", two_in_a_thousand)
    monkeypatch.setattr(model_file, "AGREEMENT", 0.999)
    assert export(model, config, task, asked(task))[0].bits == 32


TINY = TrainConfig(
    task=AdditionTask(3), model=ModelConfig(n_heads=2, width=16), steps=2, snapshot_every=2
)


def test_the_page_gets_a_file_that_fits_its_data(cache, tmp_path):
    folder = tmp_path / "live"
    used, _ = page_data.write(TINY, folder, compared=200)
    data, page = export_folder.read(folder)
    assert data == used.data
    assert page["bytes"] == len(data)
    assert len(page["heads"]) == 2
    assert list(page["samples"]) == ["BA", "UC1", "simple US9", "US9, cascade of 2"]
    for kind, pairs in page["samples"].items():
        questions = Questions.of(TINY.task, pairs)
        assert len(questions) == page_data.PER_KIND
        lengths = {"BA": 0, "UC1": 0, "simple US9": 1}
        assert set(questions.cascade_length.tolist()) == {lengths.get(kind, 2)}
    wrong = Questions.of(TINY.task, page["wrong"])
    assert (Runner(data)(wrong)[0].argmax(-1) != wrong.answer).any(1).all()


def test_an_export_that_fails_leaves_the_last_one(cache, tmp_path, monkeypatch):
    page_data.write(TINY, tmp_path / "live", compared=200)
    before = export_folder.read(tmp_path / "live")
    monkeypatch.setattr(model_file, "WITHIN", -1.0)
    with pytest.raises(ExportError):
        page_data.write(TINY, tmp_path / "live", compared=200)
    assert export_folder.read(tmp_path / "live") == before


@pytest.mark.parametrize("damage", ["cut off", "another's", "no data", "no JSON"])
def test_files_that_do_not_belong_together_are_not_read(damage, tmp_path):
    (tmp_path / export_folder.MODEL).write_bytes(b"model")
    sha = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    (tmp_path / export_folder.PAGE).write_text(json.dumps({"sha256": sha}))
    assert export_folder.read(tmp_path) == (b"model", {"sha256": sha})
    if damage == "cut off":
        (tmp_path / export_folder.MODEL).write_bytes(b"mode")
    elif damage == "another's":
        (tmp_path / export_folder.PAGE).write_text(json.dumps({"sha256": "0" * 64}))
    elif damage == "no data":
        (tmp_path / export_folder.PAGE).unlink()
    else:
        (tmp_path / export_folder.PAGE).write_text("{")
    assert export_folder.read(tmp_path) is None
