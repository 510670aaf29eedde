"""A language model of random weights, small enough to be made on the spot: it shows that code runs,
and nothing else.

It is never loaded in place of a model that can't be had: only who asks for ``"random"`` by name
gets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


RANDOM = "random"
"""The name to ask for."""


CHARACTERS = [*"0123456789*+|=\n x", " x", "<s>", "</s>"]
"""What the tokens say, in their order: one a character, and few others."""


VOCABULARY = [{"\n": "Ċ", " ": "Ġ", " x": "Ġx"}.get(text, text) for text in CHARACTERS]
"""The same as GPT-2's way of writing bytes has them."""


def random_tokenizer() -> PreTrainedTokenizerBase:
    """Qwen2's, with one token a character; nothing is put before texts."""
    from transformers import Qwen2Tokenizer

    ids = {text: index for index, text in enumerate(VOCABULARY)}
    return Qwen2Tokenizer(vocab=ids, merges=[("Ġ", "x")], unk_token="x", eos_token="</s>")


def random_model(seed: int = 0) -> PreTrainedModel:
    """A random Qwen2 of two layers, with two key-value heads for four others, in evaluation mode."""
    import transformers

    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    shape |= dict(intermediate_size=48, vocab_size=len(CHARACTERS), max_position_embeddings=128)
    config = transformers.Qwen2Config(**shape, attn_implementation="eager")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.Qwen2ForCausalLM(config)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))
    return model.eval()
