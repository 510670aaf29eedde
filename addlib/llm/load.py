"""A language model with hooks, and proof that the hooks change nothing.

Which weights are used is always said (:mod:`addlib.llm.weights`). Random weights are had by name
only: they show that code runs, and are never loaded in place of a model that can't be had.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from addlib.device import choose_device, device_name, memory_for, out_of_memory
from addlib.llm.gguf import WeightsError, no_bars
from addlib.llm.weights import CHOICES, QWEN, ModelChoice, Source, find_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


RANDOM = "random"
"""The name to ask for a tiny model of random weights by."""


PARITY_PROMPT = "6*7=42\n13*4=52\n21*8="


PARITY = 1e-5
"""How far the bridge's probabilities may be from those of the model it wraps."""


ROUNDING = 0.1
"""How far apart two roundings of the same weights are at most, as a share of their size.

Four and eight bits are 0.04 apart; weights of two matrices that were trained, more than 1.
"""


@dataclass(frozen=True)
class LLM:
    """A language model ready for experiments.

    The tokenizer turns text into token ids with ``add_special_tokens=False``; the bridge is to be
    given ids only, since it would put a first token of its own before strings for some models and
    not for others.
    """

    bridge: TransformerBridge = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    source: Source
    parity: float  # largest difference in probability between bridge and model on PARITY_PROMPT

    @property
    def is_random(self) -> bool:
        """Whether the weights are random, so that nothing it answers means anything."""
        return self.source == RANDOM_SOURCE

    @property
    def n_parameters(self) -> int:
        """How many numbers; output weights that are the embedding's again are not counted twice.

        They are where both are one tensor, and where a file holds the same weights rounded twice
        (:data:`ROUNDING`).
        """
        total = sum(part.numel() for part in self.bridge.original_model.parameters())
        embedding = self.bridge.W_E.detach()
        output = self.bridge.W_U.detach().T
        own = embedding.data_ptr() != output.data_ptr() and embedding.shape == output.shape
        if own and (output - embedding).norm() < ROUNDING * embedding.norm():
            total -= output.numel()
        return total

    @property
    def device(self) -> torch.device:
        return next(self.bridge.parameters()).device


def load_llm(
    model: ModelChoice | str = QWEN, path: str | Path | None = None, device: str = "auto"
) -> LLM:
    """A language model as a TransformerLens bridge, in float32, with eager attention.

    Args:
        model: what to load; a repository's name stands for its entry in
            :data:`~addlib.llm.weights.CHOICES`, or else for the repository's main revision with no
            stand-by. ``"random"`` is a tiny model of random weights, for trying out code.
        path: a Hugging Face folder or GGUF file to use instead; without it, what the
            environment variable of the :class:`ModelChoice` names, if it has one.
        device: as of :func:`addlib.device.choose_device`.

    Raises:
        WeightsError: no weights anywhere, weights that are damaged, or a bridge that computes
            something else.
        ValueError: an unknown device, or a path for random weights.
        torch.OutOfMemoryError: there is no memory for the model; the text says what to do.
    """
    begun = time.perf_counter()
    target = choose_device(device)
    plain: Any  # a PreTrainedModel, whose `to` has types that refuse a device
    if model != RANDOM:
        choice = CHOICES.get(model, ModelChoice(model)) if isinstance(model, str) else model
        with memory_for(choice.repository):
            plain, tokenizer, source = pretrained(choice, path)
    elif path:
        raise ValueError(
            f"model = {RANDOM!r} has no path: leave {str(path)!r} out, or name another model"
        )
    else:
        plain = random_model()
        tokenizer = random_tokenizer()
        source = RANDOM_SOURCE
    with memory_for(source.name):
        bridge, parity = bridged(plain.to(target).eval(), tokenizer, source.name)
    seconds = time.perf_counter() - begun
    print(
        f"Language model: {source}; {bridge.cfg.n_layers} layers, {bridge.cfg.n_heads} heads, on "
        f"{device_name(target)}; loaded in {seconds:.0f} s; hooks change probabilities by "
        f"{parity:.0e} at most.",
        flush=True,
    )
    return LLM(bridge, tokenizer, source, parity)


def pretrained(
    choice: ModelChoice, path: str | Path | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Source]:
    """The model and its tokenizer, without hooks. Raises WeightsError as :func:`load_llm`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, source = find_weights(choice, path)
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            plain = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            )
    except Exception as error:
        if out_of_memory(error):
            raise
        raise WeightsError(
            f"{source.name} could not be loaded ({type(error).__name__}: {error}). It must be a "
            f"complete Hugging Face folder of a causal language model, with its tokenizer."
        ) from error
    return plain, tokenizer, source


@torch.no_grad()
def bridged(
    plain: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
) -> tuple[TransformerBridge, float]:
    """A bridge around a model, in place, and how far its probabilities are from the model's own.

    Raises:
        WeightsError: further than :data:`PARITY`.
    """
    from transformer_lens.model_bridge import TransformerBridge

    device = next(plain.parameters()).device
    ids = tokenizer(PARITY_PROMPT, add_special_tokens=False).input_ids
    tokens = torch.tensor([ids], device=device)
    expected = plain(tokens).logits.double().softmax(-1)
    # Given both, TransformerLens asks no hub; the name is only a name.
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=plain, tokenizer=tokenizer, device=device
    ).eval()
    parity = (bridge(tokens).double().softmax(-1) - expected).abs().max().item()
    if not parity <= PARITY:
        raise WeightsError(
            f"The bridge's probabilities for {name} are off by {parity:.1e}, but {PARITY:.0e} is "
            f"the most that rounding explains: TransformerLens does not know this architecture "
            f"well. Choose another model."
        )
    return bridge, parity


# Random weights

RANDOM_SOURCE = Source(
    "a tiny Qwen2", "of random weights, which say nothing about language models", "seed", "0"
)


CHARACTERS = [*"0123456789*+|=\n x", " x", "<s>", "</s>"]
"""What the random model's tokens say, in their order: one a character, and few others."""


VOCABULARY = [{"\n": "Ċ", " ": "Ġ", " x": "Ġx"}.get(text, text) for text in CHARACTERS]
"""The same as GPT-2's way of writing bytes has them."""


def random_tokenizer() -> PreTrainedTokenizerBase:
    """Qwen2's, with one token a character; nothing is put before texts."""
    from transformers import Qwen2Tokenizer

    ids = {text: index for index, text in enumerate(VOCABULARY)}
    pairs: Any = [("Ġ", "x")]  # the library's types say texts, and it passes pairs on
    return Qwen2Tokenizer(vocab=ids, merges=pairs, unk_token="x", eos_token="</s>")


def random_model(seed: int = 0) -> PreTrainedModel:
    """A random Qwen2 of two layers, with two key-value heads for four others, in evaluation mode."""
    import transformers

    config = transformers.Qwen2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=len(CHARACTERS),
        max_position_embeddings=128,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):  # all of it is drawn on the CPU
        torch.manual_seed(seed)
        model = transformers.Qwen2ForCausalLM(config)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))
    return model.eval()
