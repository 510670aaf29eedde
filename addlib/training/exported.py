"""Trained models as files for other programs: a classic state dict, safetensors, and a card.

    python -m addlib.training.exported main FOLDER         a run that several chapters share
    python -m addlib.training.exported RUN-FOLDER FOLDER   any run, by its folder in the cache

The state dict is read by torch alone, and by ``HookedTransformer.load_state_dict`` of
TransformerLens 1 and 2.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from addlib import __version__
from addlib.files import write_whole
from addlib.models.addition import answer_logits
from addlib.models.pairs import accuracy, pair_logits
from addlib.models.state_dicts import classic_state_dict
from addlib.store import sha256
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions
from addlib.training.opened import QUESTIONS, open_model
from addlib.training.runs import RUNS, FileRun, Run, load_or_train

READ_IT = """\
import torch

state = torch.load("{name}.pth", weights_only=True)  # names and tensors
W_E = state["embed.W_E"]  # (tokens, d_model)
W_Q = state["blocks.0.attn.W_Q"]  # (heads, d_model, d_head)
print({{name: tuple(tensor.shape) for name, tensor in state.items()}})"""
"""How a file is read with torch alone."""


LIMITS = {
    "sums": "It knows sums of this size only; long carries go wrong more often than others.",
    "pairs": "It knows pairs of these numbers only, and was trained on a part of them.",
}
"""What a card warns of, by what the model answers."""


def export(run: Run, folder: str | Path, name: str) -> dict[str, Any]:
    """Write ``name.pth``, ``name.safetensors`` and the card ``name.json``; returns the card."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = classic_state_dict(run.model)
    torch.save(state, folder / f"{name}.pth")
    # the mask and its constant are no weights
    parameters = {key: value for key, value in state.items() if value.ndim and "mask" not in key}
    save_file(parameters, folder / f"{name}.safetensors", metadata={"form": "classic"})
    card = _card(run, folder, name)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / f"{name}.json", text.encode())
    return card


@torch.no_grad()
def _share_right(run: Run) -> tuple[float, str]:
    """Share of right answers, and to what questions."""
    task = run.config.task
    generator = torch.Generator().manual_seed(0)
    if isinstance(task, AdditionTask):
        questions = uniform_questions(task, QUESTIONS, generator)
        logits = answer_logits(run.model, task, questions.tokens.to(run.device)).cpu()
        right = (logits.argmax(-1) == questions.answer).all(1)
        return right.double().mean().item(), f"{QUESTIONS:,} random sums"
    logits = pair_logits(run.model, task, task.pairs()).cpu()
    return accuracy(logits, task.answers(task.pairs())).item(), f"all {task.p**2:,} pairs"


def _settings(run: Run) -> dict[str, Any]:
    """How a run was trained."""
    names = {entry.name for entry in fields(run.config)} - {"task", "model", "source"}
    values = {name: getattr(run.config, name) for name in sorted(names)}
    return {**values, "steps": run.steps, "record": run.record}


def _card(run: Run, folder: Path, name: str) -> dict[str, Any]:
    cfg = run.model.cfg
    share, asked = _share_right(run)
    settings = {} if isinstance(run, FileRun) else _settings(run)
    return {
        "name": name,
        "what": "A small transformer that adds, from a book on how transformers do arithmetic.",
        "task": asdict(run.config.task),
        "tokens": "numbers 0 to base - 1 (or p - 1), then + (not for pairs), then =",
        "shape": {
            "n_layers": cfg.n_layers,
            "n_heads": cfg.n_heads,
            "d_model": cfg.d_model,
            "d_head": cfg.d_head,
            "d_mlp": cfg.d_mlp,
            "n_ctx": cfg.n_ctx,
            "d_vocab": cfg.d_vocab,
            "d_vocab_out": cfg.d_vocab_out,
            "act_fn": cfg.act_fn,
            "normalization_type": cfg.normalization_type,
            "attn_only": cfg.attn_only,
        },
        "training": settings,
        "right": {"share": share, "of": asked},
        "limits": LIMITS["sums" if isinstance(run.config.task, AdditionTask) else "pairs"],
        "license": "MIT",
        "sha256": {
            f"{name}{ending}": sha256(folder / f"{name}{ending}")
            for ending in (".pth", ".safetensors")
        },
        "read it": READ_IT.format(name=name).splitlines(),
        "made by": f"addlib {__version__}",
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help=f"{', '.join(sorted(RUNS))}, or a run's folder")
    parser.add_argument("folder", type=Path, help="where the files go")
    options = parser.parse_args()
    try:
        config = RUNS.get(options.run) or open_model(options.run)
        name = options.run if options.run in RUNS else Path(options.run).resolve().name
        card = export(load_or_train(config, "cpu"), options.folder, name)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{options.folder / name}.pth, .safetensors, .json: {card['right']['share']:.1%} right")


if __name__ == "__main__":
    main()
