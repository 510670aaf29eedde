"""Exact patching: equal to TransformerLens's sweeps cell by cell, and faster by leaving out what
cannot matter.
"""

import copy
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformer_lens import patching as library
from transformer_lens.tools.analysis import attribution_patching

from addlib.patching import suffix_forward
from addlib.patching.engines import HookEngine, ShortEngine
from addlib.patching.gradient import attribution_patch
from addlib.patching.metrics import LogitDifference, Probability, Rank
from addlib.patching.sites import HEADS, KINDS, RESIDUAL
from addlib.patching.suffix_forward import ShortForward
from addlib.patching.sweep import Patcher

POSITIONS, VOCAB, SHARED = 6, 50, 3

SWEEPS = {
    ("resid_pre", True): library.get_act_patch_resid_pre,
    ("resid_mid", True): library.get_act_patch_resid_mid,
    ("attn_out", True): library.get_act_patch_attn_out,
    ("mlp_out", True): library.get_act_patch_mlp_out,
    ("z", False): library.get_act_patch_attn_head_out_all_pos,
    ("q", False): library.get_act_patch_attn_head_q_all_pos,
    ("k", False): library.get_act_patch_attn_head_k_all_pos,
    ("v", False): library.get_act_patch_attn_head_v_all_pos,
    ("pattern", False): library.get_act_patch_attn_head_pattern_all_pos,
    ("z", True): library.get_act_patch_attn_head_out_by_pos,
    ("q", True): library.get_act_patch_attn_head_q_by_pos,
    ("k", True): library.get_act_patch_attn_head_k_by_pos,
    ("v", True): library.get_act_patch_attn_head_v_by_pos,
    ("pattern", True): library.get_act_patch_attn_head_pattern_by_pos,
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(library, "tqdm", list)


def tokenizer():
    """Just enough of a tokenizer for the bridge. One with a BOS token would be looked up on the
    hub.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token="w1")


def build(family="qwen2", n_layers=2):
    """A tiny random model; grouped-query attention with 2 key-value heads, but for GPT-2."""
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    common = dict(
        hidden_size=32, num_hidden_layers=n_layers, num_attention_heads=4, vocab_size=VOCAB
    )
    common |= dict(intermediate_size=48, num_key_value_heads=2, max_position_embeddings=32)
    torch.manual_seed(0)
    if family == "qwen2":
        hf = transformers.Qwen2ForCausalLM(
            transformers.Qwen2Config(**common, tie_word_embeddings=True)
        )
    elif family == "llama":
        hf = transformers.LlamaForCausalLM(transformers.LlamaConfig(**common))
    elif family == "gemma2":
        hf = transformers.Gemma2ForCausalLM(
            transformers.Gemma2Config(**common, head_dim=8, sliding_window=32)
        )
    else:
        config = transformers.GPT2Config(
            n_embd=32, n_layer=n_layers, n_head=4, vocab_size=VOCAB, n_positions=32
        )
        hf = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for p in hf.parameters():  # larger than at birth, so that heads attend to something
            p.add_(0.2 * torch.randn_like(p))
    return TransformerBridge.boot_transformers(family, hf_model=hf.eval(), tokenizer=tokenizer())


model = cache(build)


def pairs(count=3, shared=SHARED):
    """Prompts that agree at first; the second pair agrees one token longer, so that prompts differ
    in their start.
    """
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(4, VOCAB, (count, POSITIONS), generator=generator)
    corrupted = clean.clone()
    corrupted[:, shared] = 4 + (clean[:, shared] - 4 + 7) % (VOCAB - 4)
    corrupted[1:2, shared] = clean[1:2, shared]
    corrupted[:, shared + 1] = 4 + (clean[:, shared + 1] - 4 + 9) % (VOCAB - 4)
    return clean, corrupted


def difference(count=3):
    return LogitDifference(torch.arange(count) + 10, torch.arange(count) + 20)


@cache
def library_sweep(name, kind, by_position):
    clean, corrupted = pairs()
    metric = difference()
    with torch.no_grad():
        _, clean_cache = model(name).run_with_cache(clean)
        return SWEEPS[kind, by_position](
            model(name),
            corrupted,
            clean_cache,
            lambda logits: metric(logits[:, -1]),
            reduce="none",
            baseline=True,
        )


QUICK = [(kind, by_position) for kind, by_position in SWEEPS if kind in RESIDUAL or not by_position]
"""Sweeps of few cells."""

EVERY = (
    [("qwen2", *one) for one in SWEEPS]
    + [("llama", *one) for one in SWEEPS]
    + [("gpt2", *one) for one in QUICK]
)


@pytest.mark.parametrize(("name", "kind", "by_position"), EVERY)
def test_every_sweep_equals_the_librarys(name, kind, by_position):
    clean, corrupted = pairs()
    theirs = library_sweep(name, kind, by_position)
    patcher = Patcher(model(name), corrupted, clean)
    assert isinstance(patcher.engine, ShortEngine)
    ours = patcher.sweep(kind, difference(), by_position)
    assert ours.values.shape == theirs.values.shape
    assert ours.axis_names == theirs.axis_names
    assert ours.index_df.equals(theirs.index_df)
    assert torch.allclose(ours.values, theirs.values, atol=2e-5)
    assert torch.allclose(ours.baseline, theirs.baseline, atol=2e-5)
    assert theirs.effect().abs().max() > 0.01  # there was something to agree on


@pytest.mark.parametrize(
    ("name", "kind", "by_position"),
    [("qwen2", *one) for one in SWEEPS] + [("gemma2", *one) for one in QUICK],
)
def test_the_way_through_hooks_gives_the_same(name, kind, by_position, through_hooks):
    clean, corrupted = pairs()
    theirs = library_sweep(name, kind, by_position)
    ours = Patcher(model(name), corrupted, clean).sweep(kind, difference(), by_position)
    assert torch.allclose(ours.values, theirs.values, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_clean_into_clean_changes_nothing(kind):
    clean, _ = pairs()
    effect = Patcher(model(), clean, clean).sweep(kind, difference()).effect()
    assert torch.equal(effect, torch.zeros_like(effect))
    effect = Patcher(model(), clean, clean, skip=False).sweep(kind, difference()).effect()
    assert effect.abs().max() < 1e-5  # and when everything is run


@pytest.mark.parametrize("kind", KINDS)
def test_clean_into_clean_changes_nothing_through_hooks(kind, through_hooks):
    test_clean_into_clean_changes_nothing(kind)


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_all_of_the_first_residual_stream_is_the_whole_prompt(name):
    clean, corrupted = pairs()
    patcher = Patcher(model(name), corrupted, clean)
    found = patcher.sweep("resid_pre", difference(), by_position=False, layers=[0])
    assert found.axis_names == ["layer"]
    with torch.no_grad():
        expected = difference()(model(name)(clean)[:, -1])
    assert torch.allclose(found.values[0], expected, atol=1e-5)
    assert torch.allclose(patcher.exchanged().baseline(difference()), expected, atol=1e-5)
    assert torch.allclose(found.normalized(expected), torch.ones(1, 3), atol=1e-4)
    whole = patcher.restored("resid_pre", difference(), by_position=False, layers=[0])
    assert torch.allclose(whole, torch.ones(1, 3), atol=1e-4)
    parts = patcher.restored("mlp_out", difference())
    effect = patcher.sweep("mlp_out", difference()).effect()
    gap = expected - patcher.baseline(difference())
    assert torch.allclose(parts * gap, effect, atol=1e-4)


def test_the_library_needs_gradients_off_for_resid_mid():
    """With them on, its hook edits a copy that the residual connection goes around; ours is the
    other, whole patch.
    """
    clean, corrupted = pairs()
    with torch.no_grad():
        _, clean_cache = model().run_with_cache(clean)
    metric = difference()
    with torch.enable_grad():
        around = library.get_act_patch_resid_mid(
            model(), corrupted, clean_cache, lambda logits: metric(logits[:, -1]), reduce="none"
        )
    whole = Patcher(model(), corrupted, clean).sweep("resid_mid", metric)
    assert (around.values - whole.values).abs().max() > 0.1


def test_noising_is_the_same_call_with_the_runs_exchanged():
    clean, corrupted = pairs()
    one = Patcher(model(), corrupted, clean).exchanged().sweep("z", difference(), by_position=True)
    other = Patcher(model(), clean, corrupted).sweep("z", difference(), by_position=True)
    assert torch.allclose(one.values, other.values, atol=1e-6)
    assert one.effect().abs().max() > 0.01


def test_only_a_planted_head_lights_up():
    """All heads but one write nothing; so patching that one restores all that attention carries,
    and others nothing.
    """
    planted = build()
    with torch.no_grad():
        for layer, block in enumerate(planted.blocks):
            weight = block.attn.o.original_component.weight  # (d_model, head · d_head)
            for head in range(4):
                if (layer, head) != (1, 2):
                    weight[:, head * 8 : (head + 1) * 8] = 0
    clean, corrupted = pairs()
    patcher = Patcher(planted, corrupted, clean)
    for effect in (
        patcher.sweep("z", difference()).effect(),
        attribution_patch(planted, ["z"], corrupted, clean, difference())["z"].effect(),
    ):
        others = effect.clone()
        others[1, 2] = 0
        assert effect[1, 2].abs().min() > 1e-3
        assert others.abs().max() < 1e-5
    restored = patcher.sweep("z", difference()).normalized(
        patcher.exchanged().baseline(difference())
    )
    assert torch.allclose(restored[1, 2], torch.ones(3), atol=1e-3)
    for kind, head in {
        "pattern": 2,
        "k": 1,
        "v": 1,
    }.items():  # heads 2 and 3 share key-value head 1
        effect = patcher.sweep(kind, difference()).effect()
        assert effect[1, head].abs().max() > 1e-4
        effect[1, head] = 0
        assert effect.abs().max() < 1e-5


@pytest.mark.parametrize("by_position", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_skipped_would_change_nothing(kind, by_position, monkeypatch):
    clean, corrupted = pairs()
    counts = []
    outcome = ShortEngine.outcome
    monkeypatch.setattr(
        ShortEngine,
        "outcome",
        lambda self, k, layer, patches: (
            counts.append(len(patches)),
            outcome(self, k, layer, patches),
        )[1],
    )
    found, spent = [], []
    for skip in (True, False):
        counts.clear()
        found.append(
            Patcher(model(), corrupted, clean, skip=skip).sweep(kind, difference(), by_position)
        )
        spent.append(sum(counts))
    assert torch.allclose(found[0].values, found[1].values, atol=2e-5)
    assert spent[1] == found[0].values.numel()
    assert spent[0] <= spent[1] if not by_position else spent[0] < 0.5 * spent[1]
    if by_position:
        at = found[0].axis_names.index("dest_pos" if kind == "pattern" else "pos")
        shared = found[0].effect().narrow(at, 0, SHARED)
        assert torch.equal(shared, torch.zeros_like(shared))  # exactly


@pytest.mark.parametrize("kind", ["resid_pre", "mlp_out", "z", "k"])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_results_do_not_depend_on_how_many_run_together(kind, batch_size):
    clean, corrupted = pairs()
    many = Patcher(model(), corrupted, clean).sweep(kind, difference(), by_position=True)
    few = Patcher(model(), corrupted, clean, batch_size=batch_size).sweep(
        kind, difference(), by_position=True
    )
    assert torch.allclose(many.values, few.values, atol=2e-5)


def test_where_memory_is_short_the_batches_are_halved_from_then_on(monkeypatch, capsys):
    clean, corrupted = pairs()
    expected = Patcher(model(), corrupted, clean).sweep("z", difference())
    outcome = ShortEngine.outcome

    def small(self, kind, layer, patches):
        if len(patches) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return outcome(self, kind, layer, patches)

    monkeypatch.setattr(ShortEngine, "outcome", small)
    patcher = Patcher(model(), corrupted, clean, batch_size=8)
    found = patcher.sweep("z", difference())
    assert "with 8 prompts at once; going on with 4." in capsys.readouterr().out
    assert patcher.batch_size == 2
    assert torch.allclose(found.values, expected.values, atol=2e-5)


def full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_memory_for(what):
    return pytest.raises(torch.OutOfMemoryError, match=f"^there is no memory for {what}")


def test_gradients_that_do_not_fit_are_one_sentence(monkeypatch):
    clean, corrupted = pairs()
    monkeypatch.setattr(attribution_patching, "cache_activation_and_gradient", full)
    with no_memory_for("the gradients of so many prompts"):
        attribution_patch(model(), ["z"], corrupted, clean, difference())


def test_a_single_prompt_that_does_not_fit_is_one_sentence(monkeypatch):
    clean, corrupted = pairs()
    patcher = Patcher(model(), corrupted, clean)
    monkeypatch.setattr(ShortEngine, "outcome", full)
    with no_memory_for("a single prompt:"):
        patcher.sweep("z", difference())
    monkeypatch.setattr(ShortForward, "run", full)
    with no_memory_for("a single prompt:"):
        Patcher(model(), corrupted, clean)


def test_activations_of_all_prompts_that_do_not_fit_are_one_sentence(monkeypatch, through_hooks):
    clean, corrupted = pairs()
    patcher = Patcher(model(), corrupted, clean)
    monkeypatch.setattr(HookEngine, "_both", full)
    with no_memory_for("so many prompts"):
        patcher.sweep("z", difference())
    monkeypatch.setattr(HookEngine, "__init__", full)
    with no_memory_for("so many prompts"):
        patcher.exchanged()


def test_several_metrics_share_a_sweep_and_need_not_be_logit_differences():
    clean, corrupted = pairs()
    right = difference().right
    probability = Probability(right)
    patcher = Patcher(model(), corrupted, clean)
    both = patcher.sweep("z", {"difference": difference(), "probability": probability})
    assert both.metric_names == ["difference", "probability"]
    for name, metric in (("difference", difference()), ("probability", probability)):
        alone = patcher.sweep("z", metric)
        assert torch.allclose(both[name].values, alone.values, atol=1e-5)
        assert torch.allclose(both[name].baseline, alone.baseline, atol=1e-5)
    assert 0 < both["probability"].values.min() < both["probability"].values.max() < 1
    two = patcher.sweep("z", {"a": difference(), "b": LogitDifference(difference().wrong, right)})
    # and from two logits of a prompt each
    assert torch.allclose(two["a"].values, -two["b"].values, atol=1e-5)


def test_some_layers_are_a_part_of_all():
    clean, corrupted = pairs()
    patcher = Patcher(model("llama", 3), corrupted, clean)
    every = patcher.sweep("v", difference(), by_position=True)
    some = patcher.sweep("v", difference(), by_position=True, layers=[2, 0])
    assert torch.allclose(some.values, every.values[[2, 0]], atol=1e-6)
    assert some.index_df["layer"].unique().tolist() == [2, 0]


@pytest.mark.parametrize(("kind", "by_position"), SWEEPS)
def test_named_cells_are_those_of_the_whole_sweep(kind, by_position, monkeypatch):
    clean, corrupted = pairs()
    patcher = Patcher(model("qwen2"), corrupted, clean)
    metrics = {"a": difference(), "b": lambda logits: logits[:, 5]}
    every = patcher.sweep(kind, metrics, by_position)
    generator = torch.Generator().manual_seed(4)
    rows = torch.randperm(len(every.index_df), generator=generator)[:5]
    ran = []
    outcome = type(patcher.engine).outcome
    monkeypatch.setattr(
        type(patcher.engine),
        "outcome",
        lambda *given: (ran.append(len(given[-1])), outcome(*given))[1],
    )
    some = patcher.sweep(kind, metrics, index_df=every.index_df.iloc[rows.tolist()])
    assert torch.allclose(some.values, every.values.flatten(1, -2)[:, rows], atol=1e-5)
    assert torch.allclose(some.effect(), every.effect().flatten(1, -2)[:, rows], atol=1e-5)
    assert torch.allclose(some["b"].mean(), every["b"].mean().flatten()[rows], atol=1e-5)
    assert sum(ran) <= len(rows) * len(clean)  # no other cell went through the model


@pytest.mark.parametrize(("kind", "by_position"), SWEEPS)
def test_named_cells_go_through_hooks_as_well(kind, by_position, monkeypatch, through_hooks):
    test_named_cells_are_those_of_the_whole_sweep(kind, by_position, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "columns", "cell", "said"),
    [
        ("z", ["layer", "pos"], (0, 1), "layer, pos, head"),
        ("z", ["layer", "head_index"], (0, 1), "with layer, head$"),
        ("mlp_out", ["layer", "head"], (0, 1), "with layer$"),
        ("pattern", ["layer", "head_index", "pos"], (0, 1, 1), "layer, head_index, dest_pos"),
        ("z", ["layer", "head"], (0, 99), "no cell {'layer': 0, 'head': 99}"),
        ("mlp_out", ["layer", "pos"], (9, 0), "layers 0 to 1"),
        ("mlp_out", ["layer", "pos"], None, "name at least one"),
    ],
)
def test_cells_that_are_not_there_are_refused(kind, columns, cell, said):
    clean, corrupted = pairs()
    with pytest.raises(ValueError, match=said):
        Patcher(model(), corrupted, clean).sweep(
            kind, difference(), index_df=pd.DataFrame([cell] if cell else [], columns=columns)
        )


def test_intervals_and_p_values_come_with_the_result():
    clean, corrupted = pairs()
    found = Patcher(model(), corrupted, clean).sweep("resid_pre", difference())
    low, high = found.bootstrap_ci(of_effect=True)
    assert (
        (low <= found.effect().mean(-1) + 1e-6) & (found.effect().mean(-1) <= high + 1e-6)
    ).all()
    assert found.permutation_pvalue()[:, :SHARED].min() == 1


def test_an_architecture_that_does_not_fit_is_noticed():
    clean, corrupted = pairs()
    with pytest.warns(UserWarning, match="Gemma2.*through hooks"):
        Patcher(model("gemma2"), corrupted, clean)


def test_blocks_of_another_form_are_noticed():
    short = ShortForward(
        SimpleNamespace(cfg=SimpleNamespace(n_layers=1, d_head=8), blocks=[SimpleNamespace()])
    )
    with pytest.raises(NotImplementedError, match="not of the form"):
        short.check(pairs()[0])


def test_folded_weights_are_used_alike():
    clean, corrupted = pairs()
    expected = Patcher(model(), corrupted, clean).sweep("z", difference())
    twin = copy.deepcopy(model())
    twin.enable_compatibility_mode()
    patcher = Patcher(twin, corrupted, clean)
    assert isinstance(patcher.engine, ShortEngine)
    assert torch.allclose(patcher.sweep("z", difference()).values, expected.values, atol=1e-4)
    assert torch.allclose(
        patcher.sweep("z", lambda logits: difference()(logits)).values, expected.values, atol=1e-4
    )


def test_the_check_sees_a_wrong_short_forward(monkeypatch):

    attend = suffix_forward.attend
    monkeypatch.setattr(
        suffix_forward, "attend", lambda q, k, v, scale: attend(q, k, v, 1.1 * scale)
    )
    clean, corrupted = pairs()
    with pytest.warns(UserWarning, match="off by"):
        Patcher(model(), corrupted, clean)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_is_exact_for_small_differences(kind, name):
    """Two tokens whose embeddings are nearly the same: to first order is nearly all there is."""
    near = close_model(name)
    clean, corrupted = pairs()
    corrupted = torch.where(corrupted == clean, clean, 5)
    clean = torch.where(corrupted == clean, clean, 6)
    exact = Patcher(near, corrupted, clean).sweep(kind, difference())
    estimate = attribution_patch(near, [kind], corrupted, clean, difference())[kind]
    assert estimate.values.shape == exact.values.shape
    assert estimate.axis_names == exact.axis_names
    largest = exact.effect().abs().max()
    assert largest > 1e-4
    assert (estimate.effect() - exact.effect()).abs().max() < 0.05 * largest


def test_one_gradient_gives_the_attribution_of_every_kind():
    clean, corrupted = pairs()
    near = close_model("qwen2")
    together = attribution_patch(near, list(KINDS), corrupted, clean, difference())
    for kind, found in together.items():
        alone = attribution_patch(near, [kind], corrupted, clean, difference())[kind]
        assert found.axis_names == alone.axis_names
        assert torch.allclose(found.values, alone.values, atol=1e-6)


def test_prompts_with_beginnings_of_their_own_are_run_from_their_own():
    clean, corrupted = pairs()
    clean[0, 0], corrupted[0, 0] = 7, 7  # the same within each pair, another one between pairs
    found = Patcher(build(), corrupted, clean).sweep("z", difference()).values
    assert torch.allclose(
        found,
        Patcher(build(), corrupted, clean, skip=False).sweep("z", difference()).values,
        atol=1e-5,
    )


@cache
def close_model(name):
    near = build(name)
    with torch.no_grad():
        weight = near.embed.original_component.weight
        weight[6] = weight[5] + 0.002 * torch.randn(32, generator=torch.Generator().manual_seed(2))
    return near


@pytest.mark.parametrize(
    ("base", "source", "options", "said"),
    [
        ((2, 5), (2, 6), {}, "same length"),
        ((2, 5), (3, 5), {}, "in pairs"),
        ((2, 5), (2, 5), {"batch_size": 0}, "at least 1"),
    ],
)
def test_prompts_that_do_not_pair_up_are_refused(base, source, options, said):
    tokens = [torch.ones(shape, dtype=torch.int64) for shape in (base, source)]
    with pytest.raises(ValueError, match=said):
        Patcher(model(), *tokens, **options)


def test_sweeps_that_the_model_cannot_do_are_refused():
    clean, corrupted = pairs()
    patcher = Patcher(model(), corrupted, clean)
    with pytest.raises(ValueError, match="one of resid_pre"):
        patcher.sweep("resid", difference())
    with pytest.raises(ValueError, match="layers 0 to 1"):
        patcher.sweep("z", difference(), layers=[2])
    with pytest.raises(ValueError, match="a number for each of 3"):
        patcher.sweep("z", lambda logits: logits.mean())
    with pytest.raises(ValueError, match="must be for 3"):
        patcher.sweep("z", difference(2))
    with pytest.raises(ValueError, match="at least one"):
        patcher.sweep("z", {})


def test_a_hook_point_that_the_model_lacks_is_named(monkeypatch):
    clean, corrupted = pairs()
    patcher = Patcher(model(), corrupted, clean)
    monkeypatch.setitem(KINDS, "resid_mid", "hook_nowhere")
    with pytest.raises(ValueError, match=r"no hook point blocks.0.hook_nowhere"):
        patcher.sweep("resid_mid", difference())


def test_a_model_that_would_not_repeat_itself_is_refused():
    clean, corrupted = pairs()
    other = build()
    with pytest.raises(ValueError, match="eval"):
        Patcher(other.train(), corrupted, clean)
    other.eval()
    hooked = other.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", lambda value, hook: 0 * value)])
    with hooked, pytest.raises(ValueError, match="reset_hooks"):
        Patcher(other, corrupted, clean)


def test_the_kinds_are_the_librarys():
    assert set(SWEEPS) == {(kind, True) for kind in KINDS} | {(kind, False) for kind in HEADS}
    assert set(KINDS) == set(RESIDUAL) | set(HEADS)


def test_probability_and_rank_are_those_of_the_token():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 5.0]])
    token = torch.tensor([2, 3])
    expected = [
        torch.tensor([1.0, 3, 2, 3]).softmax(0)[2].item(),
        torch.tensor([0.0, 0, 0, 5]).softmax(0)[3].item(),
    ]
    assert Probability(token)(logits).tolist() == pytest.approx(expected)
    assert Rank(token)(logits).tolist() == [2, 0]
    assert Rank(torch.tensor([1, 0]))(logits).tolist() == [0, 1]  # ties are not preferred
