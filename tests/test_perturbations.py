"""The findings notice what is wrong: each committed notebook executed anew with one real thing
changed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runs import FULL, nbval
from workflow.chapters import ROOT, chapters

QUICK = ("01_setup", "05_attention_staircases")
"""Chapters that are also run with something wrong in every test run; the others by `make
test-full`.
"""

PERTURBED = {
    "01_setup": (
        "task",
        "pair_sum[:, i] + carry[:, i] >= self.base",
        "pair_sum[:, i] + carry[:, i] >= self.base - 1",
    ),
    "02_training": (
        "runs",
        "p.copy_(values[name])",
        "p.copy_(values[name] * ('mlp.out' not in name))",
    ),
    "03_loss_shelves": ("shelves", "-p * np.log(np.where", "-p * np.log2(np.where"),
    "04_us9_cascades": ("sampling", "Fraction(task.base, cells)", "Fraction(task.base - 1, cells)"),
    "05_attention_staircases": (
        "runs",
        "p.copy_(values[name])",
        "p.copy_(values[name] * ('.q.' not in name))",
    ),
    "06_head_ablation": (
        "ablation",
        "values = values.mean(0, keepdim=True)",
        "values = values[:1]",
    ),
    "07_where_and_when": (
        "variables",
        "UNDETERMINED * questions.ms9.long()",
        "0 * questions.ms9.long()",
    ),
    "10_toy_addition": ("geometry", "torch.linalg.svd(rows - mean", "torch.linalg.svd(rows"),
    "11_grokking": (
        "progress",
        "[:, None] - torch.arange(n_outputs or p)",
        "[:, None] + torch.arange(n_outputs or p)",
    ),
    "12_qwen_multiplication": ("patching", "two[:, 0] - two[:, 1]", "two[:, 0] + two[:, 1]"),
}
"""In each chapter one thing that is real: a label, a formula, a weight. Module, what it says, and
what is wrong.
"""


def test_every_chapter_is_made_wrong_once() -> None:
    assert list(PERTURBED) == list(chapters())


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in PERTURBED if FULL or name in QUICK])
def test_what_is_wrong_is_seen(name: str, tmp_path: Path) -> None:
    """A copy of the package with one thing changed, put before the real one, changes outputs that
    are compared.
    """
    module, right, wrong = PERTURBED[name]
    shutil.copytree(ROOT / "addlib", tmp_path / "addlib")
    changed = tmp_path / "addlib" / f"{module}.py"
    source = changed.read_text(encoding="utf-8")
    assert source.count(right) == 1
    changed.write_text(source.replace(right, wrong), encoding="utf-8")

    done = nbval(chapters()[name], tmp_path / "results", PYTHONPATH=str(tmp_path))

    assert done.returncode == 1, done.stdout
    assert "Cell outputs differ" in done.stdout, done.stdout
    assert "Cell execution caused an exception" not in done.stdout, done.stdout
