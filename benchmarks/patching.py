"""Exact patching sweeps, TransformerLens's and ours, of the same cells in the same run.

    python benchmarks/patching.py --llm           # chapter 12's model
    python benchmarks/patching.py --model FOLDER  # any other Hugging Face folder
    python benchmarks/patching.py --shape qwen    # random weights in the shape of Qwen2.5-0.5B
    python benchmarks/patching.py                 # a random model of middling size

Each adds to benchmarks/results.json and prints a table. Both sweep resid_pre by layer × position
and z by layer × head over the same layers, with the same metric. Each includes what it has to do
beforehand: TransformerLens's cache of the clean run; our check of the model and both runs. Since
prompts begin with the same examples, a user of the library might leave these positions out by hand:
the ratio of the remaining cells is given beside that of all.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from rows import add_rows, devices

from addlib.device import choose_device, device_name
from addlib.llm.load import load_llm
from addlib.llm.pairs import prompt_pairs
from addlib.llm.prompts import MULTIPLY, Form, problems
from addlib.patching.metrics import LogitDifference
from addlib.patching.sweep import Patcher

if TYPE_CHECKING:
    from transformer_lens import ActivationCache

FORM = Form(MULTIPLY, ((6, 7), (13, 4), (3, 9), (21, 8)))


CHAPTER = "chapter 12's"
"""Stands for the weights that the chapter finds, instead of a folder."""


SHAPES = {
    "middling": {
        "hidden_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 1024,
        "vocab_size": 8000,
    },
    "qwen": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
}
"""Shapes of random models."""


def load(folder: str | None, shape: str, device: torch.device) -> tuple:
    """A bridge, its tokenizer (None for a random model) and a description."""
    if folder is not None:
        llm = load_llm(path=None if folder == CHAPTER else folder, device=str(device))
        return llm.bridge, llm.tokenizer, str(llm.source)
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge

    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SHAPES[shape], max_position_embeddings=64)
    words = Tokenizer(WordLevel({"w": 0}, unk_token="w"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="w", eos_token="w"
    )
    with device:
        model = transformers.Qwen2ForCausalLM(config).eval()
    name = f"random Qwen2, {config.num_hidden_layers} layers x {config.hidden_size}"
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=model, tokenizer=tokenizer, device=device
    )
    return bridge, None, name


def pairs(tokenizer: Any, count: int) -> tuple[torch.Tensor, torch.Tensor, LogitDifference]:
    """Clean and corrupted prompts that differ in one digit, and the first digits of their answers."""
    if tokenizer is not None:
        made = prompt_pairs(FORM, tokenizer, problems((2, 1), without=FORM.shots), 0).first(count)
        return made.clean, made.corrupted, made.difference
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(8000, (1, 40), generator=generator).repeat(count, 1)
    clean[:, 34:] = torch.randint(8000, (count, 6), generator=generator)
    corrupted = clean.clone()
    corrupted[:, 34] = (clean[:, 34] + 1) % 8000
    return clean, corrupted, LogitDifference(torch.arange(count), torch.arange(count) + 100)


def timed(call: Callable, device: torch.device) -> tuple[Any, float, float]:
    """What a call gives, its seconds, and the processor's, which bear with a busy machine."""
    begun = time.perf_counter()
    worked = time.process_time()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - begun, time.process_time() - worked


def peak(call: Callable, device: torch.device) -> float:
    """The most memory in GiB that the process, or the GPU, held during a call."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 2**30
    stop = threading.Event()
    pages = [0]

    def watch() -> None:
        while not stop.wait(0.005):
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            pages[0] = max(pages[0], resident)

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    stop.set()
    watcher.join()
    return pages[0] * os.sysconf("SC_PAGE_SIZE") / 2**30


@torch.no_grad()
def measure(
    folder: str | None,
    shape: str,
    device: torch.device,
    layers: list[int] | None,
    count: int,
    repeats: int,
) -> dict:
    """Medians over ``repeats`` runs of the library's sweeps in parts, with ours beside each part."""
    import pandas as pd
    from transformer_lens import patching as library

    library.tqdm = list  # no bar for each of many sweeps
    model, tokenizer, name = load(folder, shape, device)
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

    # These warm up, too.
    plain_peak = peak(lambda: model(corrupted), device)
    ours_peak = peak(ours, device)
    seconds: dict[str, list[float]] = {name: [] for name in ("cache", *cells, "ours")}
    worked: dict[str, list[float]] = {name: [] for name in seconds}

    def time_of(name: str, call: Callable) -> Any:
        result, wall, processor = timed(call, device)
        seconds[name].append(wall)
        worked[name].append(processor)
        return result

    for _ in range(repeats):
        cache = time_of("cache", lambda: model.run_with_cache(clean)[1])
        expected = {}
        for which in cells:
            resid_pre, z = time_of("ours", ours)  # once beside each part, since these take long
            expected[which] = time_of(which, partial(theirs, which, cache))
        del cache
    by_layer = {which: values.unflatten(0, (len(layers), -1)) for which, values in expected.items()}
    whole = torch.cat([by_layer["prefix"], by_layer["changed"]], 1)
    apart = max(
        (resid_pre - whole).abs().max().item(),
        (z - by_layer["z"]).abs().max().item(),
    )

    def ratio(times: dict[str, list[float]], parts: tuple[str, ...]) -> float:
        """How many times as long the library takes for these parts as we for all."""
        library_s = sum(median(times[name]) for name in ("cache", *parts))
        return round(library_s / median(times["ours"]), 2)

    all_parts = tuple(cells)
    without_prefix = ("changed", "z")
    return {
        "library_s": round(sum(median(seconds[name]) for name in ("cache", *cells)), 2),
        "ours_s": round(median(seconds["ours"]), 2),
        "ratio": ratio(seconds, all_parts),
        "ratio_of_processor_time": ratio(worked, all_parts),
        "ratio_without_prefix": ratio(seconds, without_prefix),
        "ratio_without_prefix_of_processor_time": ratio(worked, without_prefix),
        "max_abs_diff": float(f"{apart:.2e}"),
        "largest_effect": round((whole - whole[:, :1]).abs().max().item(), 3),
        "peak_gib": round(ours_peak, 2),
        "plain_batch_peak_gib": round(plain_peak, 2),
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
        "--shape", choices=SHAPES, default="middling", help="of a random model (default: middling)"
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
    rows = {}
    for name in devices():
        row = measure(
            arguments.model,
            arguments.shape,
            choose_device(name),
            arguments.layers,
            arguments.pairs,
            arguments.repeats,
        )
        of_shape = "" if arguments.model or arguments.shape == "middling" else "_qwen_shape"
        rows[f"patching{of_shape}_{name}"] = row
        print(
            f"{row['cells']} cells of {row['model']} on {row['device']}: library "
            f"{row['library_s']} s, ours "
            f"{row['ours_s']} s: {row['ratio']} times faster ({row['ratio_without_prefix']} "
            f"without the shared "
            f"positions); apart by {row['max_abs_diff']:.0e} at most; peak {row['peak_gib']} GiB"
        )
    add_rows(rows)


if __name__ == "__main__":
    main()
