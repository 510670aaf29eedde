"""Fixtures by a real TransformerLens 2, and its reading of what this book exports.

    python tests/compat/with_transformer_lens_2.py write FOLDER        train small models, save them
    python tests/compat/with_transformer_lens_2.py read MODEL QUESTIONS  logits of an exported model

It runs in an environment of its own (``run.sh`` makes it) and imports nothing of the book's. Weights
are in single precision, logits are worked out in double. The logits of a question are kept as one
number for each answer position: their product with fixed random weights, in which a difference of
any logit shows.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

N_DIGITS = 2
BASE = 6
P = 11


def addition_questions() -> torch.Tensor:
    """All 1,296 sums of two numbers with two digits in base 6, as tokens in reading order."""
    numbers = torch.arange(BASE**N_DIGITS)
    x, y = torch.cartesian_prod(numbers, numbers).T

    def digits(values: torch.Tensor, count: int) -> torch.Tensor:
        powers = [BASE**i for i in range(count - 1, -1, -1)]
        return torch.stack([values // power % BASE for power in powers], 1)

    plus = torch.full((len(x), 1), BASE)
    parts = [digits(x, N_DIGITS), plus, digits(y, N_DIGITS), plus + 1]
    return torch.cat([*parts, digits(x + y, N_DIGITS + 1)], 1)


def projected(logits: torch.Tensor) -> torch.Tensor:
    """The product of logits with fixed random weights, (questions, positions)."""
    weights = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(0))
    return logits.double() @ weights.double()


def train(
    model: HookedTransformer, tokens: torch.Tensor, first: int, answers: torch.Tensor
) -> None:
    """Train on all questions at every step, on the logits from position ``first`` on."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for _ in range(1500):
        logits = model(tokens)[:, first : first + answers.shape[1]]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.2g}")


@torch.no_grad()
def in_double(model: HookedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """Logits in double precision; the model stays in it."""
    model.cfg.dtype = torch.float64
    return model.to(torch.float64)(tokens)


def write(folder: Path) -> None:
    """Train, and save state dicts with the projected logits on all questions."""
    shape = {"n_layers": 1, "n_heads": 2, "act_fn": "relu", "device": "cpu", "seed": 1}
    tokens = addition_questions()
    first = 2 * N_DIGITS + 1
    size = {"d_model": 20, "d_head": 10, "n_ctx": 3 * N_DIGITS + 3, "d_vocab": BASE + 2}
    model = HookedTransformer(HookedTransformerConfig(**shape, **size, normalization_type="LN"))
    train(model, tokens, first, tokens[:, first + 1 :])
    with torch.no_grad():
        model.unembed.b_U += torch.linspace(-1, 1, BASE + 2)  # so that it matters
        torch.save(model.state_dict(), folder / "addition.pth")
        whole = copy.deepcopy(model)
        model.process_weights_(fold_ln=True, center_writing_weights=True, center_unembed=True)
        torch.save({"model": model.state_dict()}, folder / "addition_folded.pth")
        logits = in_double(whole, tokens)[:, first:-1]
        torch.save(projected(logits).float(), folder / "addition_logits.pt")

    numbers = torch.arange(P)
    pairs = torch.cartesian_prod(numbers, numbers)
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), P)], 1)
    size = {"d_model": 12, "d_head": 6, "n_ctx": 3, "d_vocab": P + 1, "d_vocab_out": P}
    model = HookedTransformer(HookedTransformerConfig(**shape, **size, normalization_type=None))
    train(model, tokens, 2, (pairs.sum(1) % P)[:, None])
    with torch.no_grad():
        torch.save({"checkpoints": [model.state_dict()]}, folder / "grokking.pth")
        logits = in_double(model, tokens)[:, -1:]
        torch.save(projected(logits).float(), folder / "grokking_logits.pt")


def read(model_file: Path, questions_file: Path) -> None:
    """Load an exported classic state dict, and save its logits on the questions."""
    state = torch.load(model_file, weights_only=True)
    heads, d_model, d_head = state["blocks.0.attn.W_Q"].shape
    n_ctx = len(state["pos_embed.W_pos"])
    d_vocab, d_vocab_out = len(state["embed.W_E"]), state["unembed.W_U"].shape[1]
    normalization = "LN" if "ln_final.w" in state else None
    config = HookedTransformerConfig(
        n_layers=1, n_heads=heads, d_model=d_model, d_head=d_head, n_ctx=n_ctx, d_vocab=d_vocab,
        d_vocab_out=d_vocab_out, act_fn="relu", normalization_type=normalization, device="cpu",
    )  # fmt: skip
    model = HookedTransformer(config)
    model.load_state_dict(state, strict=True)
    logits = in_double(model, torch.load(questions_file, weights_only=True))
    torch.save(logits, questions_file.with_name("logits.pt"))


if __name__ == "__main__":
    mode, *paths = sys.argv[1:]
    {"write": write, "read": read}[mode](*map(Path, paths))
