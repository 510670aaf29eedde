"""Noise as a corruption: what is noised, and patches of noised runs against hooks set by hand."""

import pytest
import torch

from addlib.llm.load import RANDOM, load_llm
from addlib.llm.pairs import prompt_pairs
from addlib.llm.prompts import few_shot, problems
from addlib.patching.engines import HookEngine, ShortEngine
from addlib.patching.noise import embedding_noise
from addlib.patching.sweep import Patcher

KINDS = ("resid_pre", "mlp_out", "z", "v", "pattern")


@pytest.fixture(scope="module")
def case():
    """A model, pairs of prompts, and noise on the first number's digits."""
    llm = load_llm(RANDOM, device="cpu")
    form = few_shot(count=2)
    pairs = prompt_pairs(form, llm.tokenizer, problems((2, 1), 40), 0).first(5)
    first = int((pairs.clean == pairs.clean[0]).all(0).long().argmin())
    position = torch.arange(pairs.clean.shape[1]).expand(len(pairs), -1)
    where = (position >= first) & (position < first + 2)
    return llm.bridge, pairs, where, embedding_noise(llm.bridge, pairs.clean, where)


def by_hand(model, pairs, noise, kind_hook=None, cell=None):
    """The metric of noised prompts, with one activation of the clean run at one position."""
    hooks = [("blocks.0.hook_resid_pre", lambda value, hook: value + noise)]
    if cell:
        layer, position = cell
        name = f"blocks.{layer}.{kind_hook}"
        _, clean = model.run_with_cache(pairs.clean, names_filter=name)

        def take(value, hook):
            value[:, position] = clean[name][:, position]
            return value

        hooks.append((name, take))
    return pairs.difference(model.run_with_hooks(pairs.clean, fwd_hooks=hooks)[:, -1])


def test_noise_is_where_it_is_asked_for_and_as_large(case):
    model, pairs, where, noise = case
    assert torch.equal((noise != 0).any(-1), where)
    embedded = model.W_E[pairs.clean[where]]
    assert noise[where].std() == pytest.approx(3 * embedded.std().item(), rel=0.1)
    assert torch.equal(noise, embedding_noise(model, pairs.clean, where))
    assert not torch.equal(noise, embedding_noise(model, pairs.clean, where, seed=1))
    with pytest.raises(ValueError, match="no token"):
        embedding_noise(model, pairs.clean, where & False)


@torch.no_grad()
def check_by_hand(case, engine):
    model, pairs, _, noise = case
    patcher = Patcher(model, pairs.clean, pairs.clean, noise=noise)
    assert isinstance(patcher.engine, engine)
    noised = by_hand(model, pairs, noise)
    assert torch.allclose(patcher.baseline(pairs.difference), noised, atol=1e-5)
    clean = pairs.difference(model(pairs.clean)[:, -1])
    assert torch.allclose(patcher.exchanged().baseline(pairs.difference), clean, atol=1e-5)
    assert (clean - noised).abs().max() > 0.01
    for kind, hook in (("resid_pre", "hook_resid_pre"), ("mlp_out", "hook_mlp_out")):
        found = patcher.sweep(kind, pairs.difference).values
        for cell in ((0, -4), (0, -5), (1, -1)):
            expected = by_hand(model, pairs, noise, hook, cell)
            assert torch.allclose(found[cell], expected, atol=1e-5), (kind, cell)


def test_patches_of_noised_runs_are_those_of_hooks_by_hand(case):
    check_by_hand(case, ShortEngine)


def test_and_so_are_those_through_hooks(case, through_hooks):
    check_by_hand(case, HookEngine)


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_agree_in_both_directions(case, kind, request):
    model, pairs, _, noise = case
    short = Patcher(model, pairs.clean, pairs.clean, noise=noise)
    request.getfixturevalue("through_hooks")
    slow = Patcher(model, pairs.clean, pairs.clean, noise=noise)
    for one, other in ((short, slow), (short.exchanged(), slow.exchanged())):
        effects = [way.sweep(kind, pairs.difference).effect() for way in (one, other)]
        assert torch.allclose(*effects, atol=2e-5)
        assert effects[0].abs().max() > 1e-3


def test_all_of_the_clean_embeddings_undo_the_noise(case):
    model, pairs, _, noise = case
    patcher = Patcher(model, pairs.clean, pairs.clean, noise=noise)
    whole = patcher.restored("resid_pre", pairs.difference, by_position=False, layers=[0])
    assert torch.allclose(whole, torch.ones(1, 5), atol=1e-3)


def test_noise_of_another_shape_is_refused(case):
    model, pairs, _, noise = case
    with pytest.raises(ValueError, match="a vector for each token"):
        Patcher(model, pairs.clean, pairs.clean, noise=noise[:, 1:])
