"""What the live page needs of a trained model: its ONNX file, and names, colours and questions.

    python -m workflow.live.page_data results/live        of the book's main model

Two files: ``model.onnx``, and ``page.json``, which is written last and names the other one's
content. The page itself (``book/_assets/live/``) has no number or colour of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from addlib.analysis.roles import Role, find_roles, role_labels
from addlib.figures.palette import COLOURS, line_colours
from addlib.files import write_whole
from addlib.models.addition import ModelConfig
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions
from addlib.tasks.sampling import (
    cascade_questions,
    class_name,
    generated_suite,
    joined,
    uniform_questions,
)
from addlib.tasks.subtasks import MISTAKES, mistakes
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from workflow.live.export_folder import MODEL, PAGE
from workflow.live.model_file import STAND_INS, Exported, Runner, export, references

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

COMPARED = 10_000
"""Questions on which the file is compared with the model; one in five has a cascade."""

PER_KIND = 4
"""Sample questions of each class and cascade length."""


def write(
    config: TrainConfig, folder: Path, seed: int = 0, compared: int = COMPARED
) -> tuple[Exported, Exported]:
    """Export the run of this configuration (trained now where it is missing) into ``folder``.

    Returns the exported file and the 32-bit one, as :func:`workflow.live.model_file.export`.

    Raises:
        ExportError: the file is not the model. Nothing is written, and what an earlier export left
            stays.
        OSError: the files can't be written; each is there whole or not at all.
    """
    model = load_or_train(config, device="cpu").model
    task = config.task
    exported, whole = export(model, config.model, task, comparison(task, compared, seed))
    data = page_data(model, config.model, task, exported, seed)
    (folder / PAGE).unlink(missing_ok=True)  # it vouches for the file that is now replaced
    write_whole(folder / MODEL, exported.data)
    write_whole(folder / PAGE, json.dumps(data, indent=1, ensure_ascii=False).encode())
    return exported, whole


def comparison(task: AdditionTask, count: int, seed: int) -> Questions:
    """Questions to compare on: four in five uniform, the others cascades of all lengths in turn."""
    generator = torch.Generator().manual_seed(seed)
    longest = task.n_digits - 1 if task.carry else 0
    parts = [
        cascade_questions(task, length, count // (5 * longest), generator)
        for length in range(1, longest + 1)
    ]
    return joined([*parts, uniform_questions(task, count - sum(map(len, parts)), generator)])


def page_data(
    model: TransformerBridge, config: ModelConfig, task: AdditionTask, exported: Exported, seed: int
) -> dict[str, Any]:
    """Everything else the page shows or needs, as JSON; all questions are drawn from ``seed``."""
    run = Runner(exported.data)
    suite = generated_suite(task, PER_KIND, seed)
    classes = zip(suite.question_class.tolist(), suite.cascade_length.tolist(), strict=True)
    kinds = [class_name(code, length) for code, length in classes]
    asked = references(task, 300)[1]
    roles = [role for layer in range(config.n_layers) for role in find_roles(model, asked, layer)]
    hard = comparison(task, 2000, seed + 1)
    wrong = hard[(run(hard)[0].argmax(-1) != hard.answer).any(1)][:PER_KIND]
    return {
        "sha256": hashlib.sha256(exported.data).hexdigest(),
        "bytes": len(exported.data),
        "bits": exported.bits,
        "compared": exported.questions,
        "agreeing": exported.agreeing,
        "cascades": int((comparison(task, exported.questions, seed).cascade_length > 0).sum()),
        "n_digits": task.n_digits,
        "base": task.base,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "mlp": not config.attn_only,
        "answer_columns": task.answer_columns,
        "stand_ins": STAND_INS,
        "mistakes": MISTAKES,
        "buckets": BUCKETS,
        "colours": COLOURS,
        "heads": heads(roles),
        "samples": {
            kind: pairs(suite[torch.tensor([name == kind for name in kinds])])
            for kind in dict.fromkeys(kinds)
        },
        "wrong": pairs(wrong),
        "first_try": first_try(run, task, roles, config, seed),
    }


def heads(roles: list[Role]) -> list[dict[str, Any]]:
    """The heads as the page names them, far carry first: layer, head, label and colour."""
    names = role_labels(roles)
    colours = line_colours(names)
    return [
        {"layer": role.layer, "head": role.head, "label": name, "colour": colours[name]}
        for role, name in zip(roles, names, strict=True)
    ]


def first_try(
    run: Runner, task: AdditionTask, roles: list[Role], config: ModelConfig, seed: int
) -> dict[str, Any] | None:
    """A right sum that ignores a carry, in few digits, once the carry head is switched off.

    None where no head has that role, or no such sum is found.
    """
    carry = next((role for role in roles if role.name == "carry"), None)
    if carry is None:
        return None
    asked = uniform_questions(task, 500, torch.Generator().manual_seed(seed + 2))
    on = torch.ones(config.n_layers, config.n_heads, dtype=torch.bool)
    on[carry.layer, carry.head] = False
    before = mistakes(asked, run(asked)[0].argmax(-1))
    after = mistakes(asked, run(asked, heads=on)[0].argmax(-1))
    ignored = (after == MISTAKES.index("carry ignored")).sum(1)
    fits = (before == 0).all(1) & (ignored > 0) & ((after != 0).sum(1) == ignored)
    if not fits.any():
        return None
    best = int(torch.where(fits, ignored, task.n_answer + 1).argmin())
    x, y = pairs(asked[best : best + 1])[0]
    return {"x": x, "y": y, "layer": carry.layer, "head": carry.head}


def pairs(questions: Questions) -> list[list[int]]:
    """Questions as pairs of whole numbers."""
    value = questions.task.value
    return torch.stack([value(questions.x), value(questions.y)], 1).tolist()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Export the book's main model for the live page.")
    parser.add_argument("folder", type=Path, help="folder that receives the two files")
    parser.add_argument(
        "--steps", type=int, default=TrainConfig.steps, help="training steps (default: %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=ModelConfig.width, help="residual width (default: %(default)s)"
    )
    options = parser.parse_args()
    config = TrainConfig(model=ModelConfig(width=options.width), steps=options.steps)
    try:
        used, whole = write(config, options.folder)
    except KeyboardInterrupt:
        raise SystemExit("The model was not exported for the live page: stopped.") from None
    for file in (used, whole):
        print(
            f"{file.bits} bits, {len(file.data) / 1e6:.1f} MB: the answers to {file.agreeing:,} of "
            f"{file.questions:,} questions are the model's, logits are within {file.distance:.2g} "
            "of its own"
        )
    print(f"Exported for the live page: {used.bits} bits.")


if __name__ == "__main__":
    main()
