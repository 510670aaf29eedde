"""Exact patching sweeps, TransformerLens's and ours, of the same cells in the same run.

    python benchmarks/patching.py --llm           # chapter 12's model
    python benchmarks/patching.py --model FOLDER  # any other Hugging Face folder
    python benchmarks/patching.py                 # a random model of middling size

Each adds to benchmarks/results.json and prints a table. Both sweep resid_pre by layer × position
and z by layer × head over the same layers, with the same metric. Each includes what it has to do
beforehand: TransformerLens's cache of the clean run; our check of the model and both runs. Since
prompts begin with the same examples, a user of the library might leave these positions out by hand:
the ratio of the remaining cells is given beside that of all.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from train_step import RESULTS

from addlib.device import choose_device, device_name
from addlib.llm.load import load_llm
from addlib.patching.metrics import LogitDifference
from addlib.patching.sweep import Patcher

if TYPE_CHECKING:
    from transformer_lens import ActivationCache

SHOTS = "6*7=42\n13*4=52\n3*9=27\n21*8=168\n"


CHAPTER = "chapter 12's"
"""Stands for the weights that the chapter finds, instead of a folder."""


def load(folder: str | None, device: torch.device) -> tuple:
    """A bridge, its tokenizer (None for a random model) and a description."""
    if folder == CHAPTER:
        llm = load_llm(device=device.type)
        return llm.bridge, llm.tokenizer, str(llm.source)
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    if folder is None:
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel

        torch.manual_seed(0)
        shape = dict(
            hidden_size=256, num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=2
        )
        config = transformers.Qwen2Config(
            **shape, intermediate_size=1024, vocab_size=8000, max_position_embeddings=64
        )
        words = Tokenizer(WordLevel({"w": 0}, unk_token="w"))
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token="w", eos_token="w"
        )
        hf, tokens, name = (
            transformers.Qwen2ForCausalLM(config).to(device),
            None,
            "random Qwen2, 12 layers x 256",
        )
    else:
        tokenizer = tokens = transformers.AutoTokenizer.from_pretrained(folder)
        hf = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(
            device
        )
        name = Path(folder).name
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=hf.eval(), tokenizer=tokenizer, device=device
    )
    return bridge, tokens, name


def pairs(tokenizer, count: int) -> tuple[torch.Tensor, torch.Tensor, LogitDifference]:
    """Clean and corrupted prompts that differ in one digit of an operand, and the first digits of
    their answers.
    """
    if tokenizer is None:
        generator = torch.Generator().manual_seed(1)
        clean = torch.randint(8000, (1, 40), generator=generator).repeat(count, 1)
        clean[:, 34:] = torch.randint(8000, (count, 6), generator=generator)
        corrupted = clean.clone()
        corrupted[:, 34] = (clean[:, 34] + 1) % 8000
        return clean, corrupted, LogitDifference(torch.arange(count), torch.arange(count) + 100)
    sums = [
        ((10 * a + b, c), (10 * (a + 2) + b, c))
        for a in range(2, 8)
        for b in (1, 3)
        for c in (3, 4)
    ][:count]
    ids = [
        [tokenizer(f"{SHOTS}{x}*{y}=", add_special_tokens=False).input_ids for x, y in two]
        for two in sums
    ]
    answers = [[str(x * y)[0] for x, y in one] for one in zip(*sums, strict=True)]
    right, wrong = (
        [tokenizer(digit, add_special_tokens=False).input_ids[-1] for digit in one]
        for one in answers
    )
    clean, corrupted = (torch.tensor([two[i] for two in ids]) for i in (0, 1))
    return clean, corrupted, LogitDifference(torch.tensor(right), torch.tensor(wrong))


def timed(call: Callable, device: torch.device) -> tuple[Any, float, float]:
    """What a call gives, its seconds, and those that processor cores spent on it, which bear with a
    busy machine.
    """
    begun, worked = time.perf_counter(), time.process_time()
    found = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return found, time.perf_counter() - begun, time.process_time() - worked


def peak(call: Callable, device: torch.device) -> float:
    """The most memory in GiB that the process, or the GPU, held during a call."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 2**30
    stop, pages = threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.005):
            pages[0] = max(pages[0], int(Path("/proc/self/statm").read_text().split()[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    stop.set()
    watcher.join()
    return pages[0] * os.sysconf("SC_PAGE_SIZE") / 2**30


@torch.no_grad()
def measure(
    folder: str | None, device: torch.device, layers: list[int] | None, count: int, repeats: int
) -> dict:
    """Medians over ``repeats`` runs of the library's sweeps in parts, with ours beside each part."""
    import pandas as pd
    from transformer_lens import patching as library

    library.tqdm = list  # no bar for each of many sweeps
    model, tokenizer, name = load(folder, device)
    layers = [0, model.cfg.n_layers // 2, model.cfg.n_layers - 1] if layers is None else layers
    clean, corrupted, metric = pairs(tokenizer, count)
    clean, corrupted = clean.to(device), corrupted.to(device)
    shared = int((clean == corrupted).all(0).long().cumprod(0).sum())
    n_positions, n_heads = clean.shape[1], model.cfg.n_heads

    def frame(columns: list[str], values: range) -> pd.DataFrame:
        return pd.DataFrame(
            [(layer, value) for layer in layers for value in values], columns=columns
        )

    cells = {
        "prefix": ("resid_pre", frame(["layer", "pos"], range(shared))),
        "changed": ("resid_pre", frame(["layer", "pos"], range(shared, n_positions))),
        "z": ("z", frame(["layer", "head"], range(n_heads))),
    }
    setters = {
        "resid_pre": library.layer_pos_patch_setter,
        "z": library.layer_head_vector_patch_setter,
    }

    def theirs(which: str, cache: ActivationCache) -> torch.Tensor:
        kind, index = cells[which]
        return library.generic_activation_patch(
            model,
            corrupted,
            cache,
            lambda logits: metric(logits[:, -1]),
            setters[kind],
            kind,
            index_df=index,
            reduce="none",
        ).values.cpu()

    def ours() -> list[torch.Tensor]:
        patcher = Patcher(model, corrupted, clean)
        return [patcher.sweep(kind, metric, layers=layers).values for kind in ("resid_pre", "z")]

    held = {
        "plain": peak(lambda: model(corrupted), device),
        "ours": peak(ours, device),
    }  # these warm up, too
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("cache", *cells, "ours")}
    for _ in range(repeats):
        cache, *spent = timed(lambda: model.run_with_cache(clean)[1], device)
        times["cache"].append(spent)
        expected = {}
        for which in cells:
            found, *spent = timed(ours, device)  # once beside each part, since these take long
            times["ours"].append(spent)
            expected[which], *spent = timed(partial(theirs, which, cache), device)
            times[which].append(spent)
        del cache
    whole = torch.cat(
        [expected[which].unflatten(0, (len(layers), -1)) for which in ("prefix", "changed")], 1
    )
    apart = max(
        (found[0] - whole).abs().max().item(),
        (found[1].flatten(0, 1) - expected["z"]).abs().max().item(),
    )
    spent = {
        name: [median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()
    }
    whole_s, part_s = (
        [sum(spent[name][i] for name in ("cache", *names)) for i in (0, 1)]
        for names in (cells, [*cells][1:])
    )
    ours_s = spent["ours"]
    return {
        "library_s": round(whole_s[0], 2),
        "ours_s": round(ours_s[0], 2),
        "ratio": round(whole_s[0] / ours_s[0], 2),
        "ratio_of_processor_time": round(whole_s[1] / ours_s[1], 2),
        "ratio_without_prefix": round(part_s[0] / ours_s[0], 2),
        "ratio_without_prefix_of_processor_time": round(part_s[1] / ours_s[1], 2),
        "max_abs_diff": float(f"{apart:.2e}"),
        "largest_effect": round((whole - whole[:, :1]).abs().max().item(), 3),
        "peak_gib": round(held["ours"], 2),
        "plain_batch_peak_gib": round(held["plain"], 2),
        "model": name,
        "layers": layers,
        "pairs": len(clean),
        "positions": n_positions,
        "shared_positions": shared,
        "cells": sum(len(index) for _, index in cells.values()),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "device": device_name(device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", help="a Hugging Face folder; without it, a random model of middling size"
    )
    which.add_argument(
        "--llm", dest="model", action="store_const", const=CHAPTER, help="the model of chapter 12"
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        help="which layers to sweep; without it, first, middle, last",
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        row = measure(
            arguments.model,
            choose_device(name),
            arguments.layers,
            arguments.pairs,
            arguments.repeats,
        )
        results[f"patching_{name}"] = row
        print(
            f"{row['cells']} cells of {row['model']} on {row['device']}: library "
            f"{row['library_s']} s, ours "
            f"{row['ours_s']} s: {row['ratio']} times faster ({row['ratio_without_prefix']} "
            f"without the shared "
            f"positions); apart by {row['max_abs_diff']:.0e} at most; peak {row['peak_gib']} GiB"
        )
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
