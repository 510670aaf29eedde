"""Direct effects add up to the model's own logits, and each is what its writer's output says."""

import copy
from functools import cache

import pytest
import torch

from addlib.llm.direct import copying, heads_along, lens_table, written_at_end
from addlib.llm.load import RANDOM, load_llm
from addlib.llm.prompts import encode, few_shot, problems


@cache
def llm():
    return load_llm(RANDOM, device="cpu")


@cache
def tokens():
    form = few_shot(count=2)
    return encode(llm().tokenizer, [form.prompt(one) for one in problems((2, 1), 5)])


def difference():
    """Two tokens for each prompt, and the direction of their logits' difference."""
    right = torch.arange(5)
    wrong = torch.arange(5) + 4
    columns = llm().bridge.W_U.detach().T
    return right, wrong, columns[right] - columns[wrong]


def test_parts_add_up_to_the_logit_difference():
    right, wrong, direction = difference()
    with torch.no_grad():
        logits = llm().bridge.original_model(tokens()).logits[:, -1]
    row = torch.arange(5)
    parts = written_at_end(llm().bridge, tokens()).along(direction)
    assert parts.shape == (5, 5)  # the embedding, attention and MLP of two layers
    assert torch.allclose(parts.sum(0), logits[row, right] - logits[row, wrong], atol=1e-5)
    assert parts.abs().min() > 1e-4


def test_each_part_is_what_its_writer_wrote():
    bridge = llm().bridge
    written = written_at_end(bridge, tokens())
    with torch.no_grad():
        _, run = bridge.run_with_cache(tokens())
    for layer in (0, 1):
        attention = run[f"blocks.{layer}.hook_attn_out"][:, -1]
        mlp = run[f"blocks.{layer}.hook_mlp_out"][:, -1]
        assert torch.equal(written.components[1 + 2 * layer], attention)
        assert torch.equal(written.components[2 + 2 * layer], mlp)
    second = run["blocks.1.hook_resid_pre"][:, -1]
    assert torch.allclose(written.stream[2], second, atol=1e-5)


def test_heads_add_up_to_their_layer_and_a_head_without_output_has_no_part():
    bridge = llm().bridge
    direction = difference()[2]
    written = written_at_end(bridge, tokens())
    heads = heads_along(bridge, written, direction)
    assert heads.shape == (2, 4, 5)
    assert torch.allclose(heads.sum(1), written.along(direction)[1::2], atol=1e-5)
    written.z[1, :, 2] = 0
    assert (heads_along(bridge, written, direction) == 0).nonzero().tolist() == [
        [1, 2, prompt] for prompt in range(5)
    ]


def test_a_final_norm_that_shifts_is_refused(monkeypatch):
    norm = torch.nn.LayerNorm(32)
    monkeypatch.setattr(llm().bridge.ln_final, "set_original_component", None, raising=False)
    monkeypatch.setitem(llm().bridge.ln_final._modules, "_original_component", norm)
    with pytest.raises(ValueError, match="must divide by the root mean square"):
        written_at_end(llm().bridge, tokens())


def test_a_head_made_to_copy_copies_and_one_made_to_shift_does_not():
    """Planted: values of group 0 are the tokens' own directions, and head 0 writes them back."""
    bridge = copy.deepcopy(llm().bridge)
    tokens = torch.arange(6)
    block = bridge.blocks[1]
    with torch.no_grad():
        embedded = bridge(tokens[:, None], stop_at_layer=0)[:, 0]
        first = bridge.blocks[0]
        normed = block.ln1(embedded + first.mlp(first.ln2(embedded)))
        codes = torch.eye(8)[:6]  # what group 0 shall say of each token
        solved = torch.linalg.lstsq(normed, codes).solution  # (d_model, d_head)
        v = block.attn.v.original_component
        v.weight[:8] = solved.T
        v.bias.zero_()
        columns = bridge.W_U[:, tokens].T  # (token, d_model)
        columns = columns - columns.mean(0)
        for shift, share in ((0, 1.0), (1, 0.0)):
            o = block.attn.o.original_component
            o.weight.zero_()
            o.weight[:, :6] = torch.linalg.pinv(columns).roll(shift, 1)
            assert copying(bridge, 1, 0, tokens) == share


def test_the_lens_ends_with_the_models_own_answer():
    prompt = tokens()[:1]
    with torch.no_grad():
        last = llm().bridge.original_model(prompt).logits[0, -1].softmax(-1)
    due = int(last.argsort()[-3])  # the third likeliest
    table = lens_table(llm().bridge, llm().tokenizer, prompt, due)
    assert table["depth"].tolist() == [0, 0.5, 1, 1.5, 2]
    end = table.iloc[-1]
    assert end["likeliest token"] == repr(llm().tokenizer.decode(int(last.argmax())))
    assert end["its probability"] == pytest.approx(last.max().item(), abs=1e-4)
    assert end["rank of the due digit"] == 3


def test_the_lens_along_a_direction_is_that_of_its_logits():
    bridge = llm().bridge
    right, wrong, direction = difference()
    written = written_at_end(bridge, tokens())
    found = written.lens_along(direction, bridge.cfg.eps)
    with torch.no_grad():
        logits = bridge.unembed(bridge.ln_final(written.stream))  # (depth, prompt, token)
    row = torch.arange(5)
    expected = logits[:, row, right] - logits[:, row, wrong]
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(found[-1], written.along(direction).sum(0), atol=1e-4)
