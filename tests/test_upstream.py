"""What the book relies on in the libraries that it uses, each fact alone: a new release may change it."""

from __future__ import annotations

import math
from pathlib import Path

import nbformat
import papermill
import pytest
import torch
from torch import Tensor
from transformer_lens.tools.analysis import logit_lens

from addlib.llm.load import CHARACTERS, bridged, load_llm, random_model, random_tokenizer
from addlib.llm.weights import ModelChoice
from addlib.models.addition import ModelConfig, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from tiny_llm import save_folder

TASK = AdditionTask(2)

CONFIG = ModelConfig(n_layers=2, width=48)

QUESTIONS = torch.tensor([[1, 2, 10, 3, 4, 11, 0, 4, 6], [9, 9, 10, 0, 1, 11, 1, 0, 0]])
"""12 + 34 = 046 and 99 + 01 = 100."""


@pytest.fixture
def model():
    """An addition model of two layers, not trained."""
    return build_model(CONFIG, TASK, seed=0).eval()


def doubled(value: Tensor, hook: object) -> Tensor:
    return 2 * value


def halved(value: Tensor, hook: object) -> Tensor:
    return value / 2


# ------------------------------------------------------------------- TransformerLens's hooks
@pytest.mark.parametrize(
    "name", ["blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2", "ln_final"]
)
@pytest.mark.parametrize("hook", ["hook_scale", "hook_normalized"])
def test_an_edit_inside_a_layer_norm_changes_the_logits(model, name: str, hook: str) -> None:
    clean = model(QUESTIONS)
    with model.hooks(fwd_hooks=[(f"{name}.{hook}", doubled)]):
        edited = model(QUESTIONS)
    assert (edited - clean).abs().max() > 0.01
    assert torch.equal(model(QUESTIONS), clean)


def test_hooks_inside_hooks_both_count_and_the_inner_ones_end_first(model) -> None:
    """In the order in which they were added, at one place and at several."""
    here = "blocks.0.hook_mlp_out"
    clean = model(QUESTIONS)
    with model.hooks(fwd_hooks=[(here, doubled)]):
        outer = model(QUESTIONS)
        with model.hooks(fwd_hooks=[(here, halved)]):
            assert torch.equal(model(QUESTIONS), clean)
        with model.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", doubled)]):
            both = model(QUESTIONS)
        assert torch.equal(model(QUESTIONS), outer)
    assert torch.equal(model(QUESTIONS), clean)
    assert not torch.allclose(outer, clean)
    assert not torch.allclose(both, outer)


def test_a_forward_stops_in_front_of_a_layer(model) -> None:
    """And runs nothing from there on."""
    _, cache = model.run_with_cache(QUESTIONS)
    ran = []
    note = [("blocks.0.hook_mlp_out", lambda value, hook: ran.append(hook.name))]
    with model.hooks(fwd_hooks=note):
        first = model(QUESTIONS, stop_at_layer=0)
        assert not ran
        second = model(QUESTIONS, stop_at_layer=1)
    assert torch.equal(first, cache["hook_embed"] + cache["hook_pos_embed"])
    assert torch.equal(second, cache["blocks.0.hook_resid_post"])


def test_the_logit_lens_computes_the_last_layer_norm_anew_for_each_stream(model) -> None:
    with torch.no_grad():
        for parameter in (model.ln_final.weight, model.ln_final.bias):
            parameter += 0.1 * torch.arange(len(parameter))  # gain and bias that do something
    logits, cache = model.run_with_cache(QUESTIONS)
    lens = logit_lens(model, QUESTIONS, positions=(0, TASK.n_ctx), vocab=range(TASK.d_vocab))
    seen = lens.values
    stream = cache["blocks.1.hook_resid_pre"]
    centred = stream - stream.mean(-1, keepdim=True)
    normalised = centred / (centred.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    by_hand = (normalised * model.ln_final.weight + model.ln_final.bias) @ model.W_U
    assert len(seen) == 3
    torch.testing.assert_close(seen[1], by_hand)
    torch.testing.assert_close(seen[2], logits)


# --------------------------------------------------------------- TransformerLens's first weights
def test_first_weights_have_the_spread_that_the_book_states(model) -> None:
    """0.8 / √d_model; output projections are smaller by √(2 · layers); biases are zero, gains one."""
    usual = 0.8 / math.sqrt(CONFIG.d_model)
    for name, value in weights(model).items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif ".ln" in name or name.startswith("ln"):
            assert (value == 1).all(), name
        else:
            into_stream = name.endswith(("attn.o.weight", "mlp.out.weight"))
            expected = usual / (math.sqrt(2 * CONFIG.n_layers) if into_stream else 1)
            error = expected / math.sqrt(2 * value.numel())
            assert abs(value.std().item() - expected) < 4 * error, name


# -------------------------------------------------------------------------- language models
def test_weights_stored_in_16_bits_are_32_bits_wide_when_loaded(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model")
    stored = random_model().to(torch.bfloat16)
    stored.save_pretrained(folder)
    llm = load_llm(ModelChoice("tiny"), folder, "cpu")
    assert {parameter.dtype for parameter in llm.bridge.parameters()} == {torch.float32}
    expected = stored.lm_head.weight.float().T
    assert torch.equal(llm.bridge.W_U, expected)


def test_a_tied_model_reads_with_the_vectors_that_it_writes() -> None:
    import transformers

    config = transformers.Qwen2Config(
        **{**random_model().config.to_dict(), "tie_word_embeddings": True}
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    tied, _ = bridged(transformers.Qwen2ForCausalLM(config).eval(), random_tokenizer(), "tied")
    assert tied.W_U.shape == (config.hidden_size, len(CHARACTERS))
    assert torch.equal(tied.W_U, tied.W_E.T)


# ------------------------------------------------------------------------------- papermill
def test_papermill_sees_every_parameter_with_what_is_said_behind_it(tmp_path: Path) -> None:
    """A comment above a parameter it does not read, and of two names on a line it sees neither."""
    cell = nbformat.v4.new_code_cell(
        "steps = 5_000  # at least 200\n"
        "lr = 8e-5  # above 0\n"
        "lengths = (1, 2)  # digits\n"
        'device = "auto"  # or "cpu"\n'
        "many = (\n    1,\n)  # digits\n"
        "# above\nseed = 0\n"
        "first, second = 1, 2  # not seen\n"
    )
    cell.metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    seen = papermill.inspect_notebook(tmp_path / "a.ipynb")
    assert {name: (one["default"], one["help"]) for name, one in seen.items()} == {
        "steps": ("5_000", "at least 200"),
        "lr": ("8e-5", "above 0"),
        "lengths": ("(1, 2)", "digits"),
        "device": ('"auto"', 'or "cpu"'),
        "many": ("(1,)", "digits"),
        "seed": ("0", ""),
    }
