"""Training: metrics against plain re-computation, and the run's life through kills, races and
damaged files.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from addlib.models.addition import ModelConfig, answer_logits
from addlib.models.bridge import weights
from addlib.stats import answer_nll
from addlib.store import CheckpointError
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import training_questions, uniform_questions
from addlib.training import addition
from addlib.training.addition import QuestionStream, TrainConfig, Trainer
from addlib.training.runs import load_or_train, load_or_train_all
from addlib.training.shelf_runs import cooled, reused_questions, small_config, variants
from models import same_weights

pytestmark = pytest.mark.depends_on()

SMALL = TrainConfig(
    task=AdditionTask(2), model=ModelConfig(width=24), steps=60, snapshot_every=20, batch_size=16
)


def test_recorded_metrics_equal_a_plain_recomputation():
    trainer = Trainer(SMALL, "cpu")
    generator = torch.Generator().manual_seed(SMALL.seed)
    for step in range(5):
        questions = training_questions(SMALL.task, SMALL.batch_size, step, generator)
        logits = answer_logits(trainer.model, SMALL.task, questions.tokens).detach().double()
        log_probs = logits.log_softmax(-1)
        total, digit, bucket = [], [[] for _ in range(3)], {}
        of_class = {}
        for q in range(len(questions)):
            for column in range(3):
                loss = -log_probs[q, column, questions.answer[q, column]].item()
                total.append(loss)
                of_class.setdefault(questions.question_class[q].item(), []).append(loss)
                digit[column].append(loss)
                if column < 2:
                    bucket.setdefault((column, questions.bucket[q, column].item()), []).append(loss)
        trainer.train_step()
        history = trainer.history
        assert history.loss[step].item() == pytest.approx(sum(total) / len(total), rel=1e-5)
        for column in range(3):
            assert history.digit_loss[step, column].item() == pytest.approx(
                sum(digit[column]) / len(questions), rel=1e-5
            )
        for column in range(2):
            for code in range(3):
                cases = bucket.get((column, code), [])
                assert history.bucket_count[step, column, code] == len(cases)
                measured = history.bucket_loss[step, column, code].item()
                assert (
                    measured == pytest.approx(sum(cases) / len(cases), rel=1e-5)
                    if cases
                    else measured != measured
                )
        for code in range(3):
            losses = of_class.get(code, [])
            measured = history.class_loss[step, code].item()
            if losses:
                assert measured == pytest.approx(sum(losses) / len(losses), rel=1e-5)
            else:
                assert measured != measured
    assert history.bucket_loss[:5].isnan().any()  # US9 at the units column never happens
    falling = replace(SMALL, steps=101, lr=1e-3, warmup_steps=10, final_lr_share=0.1)
    assert [falling.lr_at(step) for step in (0, 50, 100)] == pytest.approx([1e-4, 5.5e-4, 1e-4])
    assert history.lr[:5].tolist() == pytest.approx([SMALL.lr * (i + 1) / 10 for i in range(5)])


def test_training_learns_and_a_finished_run_is_loaded_back(cache):
    config = replace(SMALL, steps=300, lr=3e-3, snapshot_every=100)
    run = load_or_train(config, "cpu", progress=False)
    assert run.history.loss[-20:].mean() < 0.8 * run.history.loss[:5].mean()
    assert run.snapshot_steps == [0, 100, 200, 300]
    stamp = (config.folder.path / "run.json").stat().st_mtime_ns
    again = load_or_train(config, "cpu", progress=False)
    assert (config.folder.path / "run.json").stat().st_mtime_ns == stamp
    assert same_weights(run.model, again.model)
    assert torch.equal(run.history.loss, again.history.loss)
    assert same_weights(run.model_at(300), run.model)
    assert not same_weights(run.model_at(100), run.model)
    assert run.record["device"] == "cpu"
    last = (config.folder.path / "weights-000300.safetensors").read_bytes()
    assert run.checkpoint == hashlib.sha256(last).hexdigest()
    assert not list(cache.rglob("resume*"))
    with pytest.raises(
        ValueError, match=r"steps = 7: weights were kept after \[0, 100, 200, 300\]"
    ):
        run.snapshot(7)


def test_a_run_gives_its_uniform_losses_and_the_logits_of_averaged_weights(cache):
    run = load_or_train(SMALL, "cpu", progress=False)
    losses = run.uniform_loss()
    enriched = np.arange(60) % 5 == 4
    assert np.isnan(losses[enriched]).all()
    assert (losses[~enriched] == run.history.digit_loss.numpy()[~enriched]).all()

    questions = uniform_questions(SMALL.task, 50, torch.Generator().manual_seed(0))
    model = run.model_at(40)
    with torch.no_grad():
        expected = answer_logits(model, SMALL.task, questions.tokens).double()
        assert torch.allclose(run.answer_logits(questions, 40), expected, atol=1e-4)
        early = dict(run.snapshot(20))
        for name, p in weights(model).items():
            p.copy_((p + early[name]) / 2)
        expected = answer_logits(model, SMALL.task, questions.tokens).double()
    assert torch.allclose(run.answer_logits(questions, 20, 40), expected, atol=1e-4)


def test_small_models_differ_from_the_base_in_what_their_name_says():
    base = small_config(steps=60, width=24, n_heads=3, seed=1)
    made = variants(base) | reused_questions(base)
    assert made.pop("base") == base
    assert len({*made.values(), base}) == len(made) + 1
    assert not made["no carry"].task.carry
    assert made["units first"].task.answer_order == "lsd"
    assert made["512 questions, decay 1"].dataset_size == 512


def test_cooling_goes_on_from_the_snapshot_and_ends_at_rate_0(cache):
    """Steps by hand: AdamW from the weights kept after 20 steps, the rate on a line to 0."""
    run = load_or_train(SMALL, "cpu", progress=False)
    by_hand = run.model_at(20)
    parameters = list(weights(by_hand).values())
    adam = torch.optim.AdamW(parameters, betas=(SMALL.beta1, SMALL.beta2), weight_decay=0.1)
    generator = torch.Generator().manual_seed(9)
    rates = [
        SMALL.lr * min(1, (step + 1) / SMALL.warmup_steps) * (1 - step / 11) for step in range(12)
    ]
    for step, rate in enumerate(rates):
        batch = training_questions(SMALL.task, SMALL.batch_size, step, generator)
        logits = answer_logits(by_hand, SMALL.task, batch.tokens)
        adam.zero_grad()
        answer_nll(logits, batch.answer).mean().backward()
        adam.param_groups[0]["lr"] = rate
        adam.step()
    model = cooled(run, at=20, steps=12, seed=9)
    for name, values in weights(model).items():
        if not name.endswith("k.bias"):  # softmax cancels it: its gradient is rounding alone
            assert torch.allclose(values, weights(by_hand)[name], atol=1e-5), name
    assert rates[-1] == 0


def test_a_finite_set_of_questions_is_used_again_and_no_other(cache):
    config = replace(SMALL, dataset_size=40, enrich_every=0)
    stream, seen = QuestionStream(config), set()
    first = stream.dataset.tokens.tolist()
    for _ in range(12):
        batch = next(stream).tokens.tolist()
        assert len(batch) == config.batch_size and all(row in first for row in batch)
        seen |= {tuple(row) for row in batch}
    assert seen == {tuple(row) for row in first}
    assert QuestionStream(config).dataset.tokens.tolist() == first
    other = QuestionStream(replace(config, seed=7)).dataset.tokens.tolist()
    assert other != first
    fresh = uniform_questions(
        config.task, 40, torch.Generator().manual_seed(config.seed + 1)
    ).tokens.tolist()
    assert fresh != first  # the questions that chapters test on
    with pytest.raises(ValueError, match="dataset_size = 8 with enrich_every = 5, batch_size = 16"):
        replace(SMALL, dataset_size=8)


@pytest.mark.parametrize("changes", [{}, {"dataset_size": 40, "enrich_every": 0}])
def test_batches_drawn_ahead_are_those_drawn_one_by_one(monkeypatch, changes):
    """Also when a stream goes on from the middle of what was drawn ahead."""
    config = replace(SMALL, **changes)
    monkeypatch.setattr(addition, "QUESTIONS_AHEAD", config.batch_size)
    one_by_one = [questions.tokens for questions in islice(QuestionStream(config), 23)]
    monkeypatch.setattr(addition, "QUESTIONS_AHEAD", 5 * config.batch_size)
    stream = QuestionStream(config)
    for step in range(13):
        assert torch.equal(next(stream).tokens, one_by_one[step])
    later = QuestionStream(config)
    later.restore(stream.step, stream.state)
    for step in range(13, 23):
        assert torch.equal(next(later).tokens, one_by_one[step])
    if not changes:
        generator = torch.Generator().manual_seed(config.seed)
        for step, tokens in enumerate(one_by_one):
            drawn = training_questions(config.task, config.batch_size, step, generator)
            assert torch.equal(drawn.tokens, tokens)


def test_a_small_models_weights_do_not_depend_on_the_number_of_threads():
    """The main model's may: its steps are worth more threads."""
    config = replace(SMALL, batch_size=64, model=ModelConfig(width=96))
    threads = torch.get_num_threads()
    ends = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            trainer = Trainer(config, "cpu")
            trainer.train(6)
            assert torch.get_num_threads() == count
            assert trainer.threads == 1
            assert Trainer(TrainConfig(), "cpu").threads == count
            ends.append([p.detach().clone() for p in trainer.weights.values()])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_a_resume_file_of_another_version_is_refused_and_stays(cache, monkeypatch):
    config = replace(SMALL, steps=40)
    trainer = Trainer(config, "cpu")
    trainer.train(20)
    state = trainer.state()
    file = config.folder.path / "resume.safetensors"
    on_a_gpu = {**state, "generator": torch.zeros(16, dtype=torch.uint8)}
    without_moments = {name: x for name, x in state.items() if not name.startswith("adam.exp")}
    for changed in (on_a_gpu, without_moments):
        config.folder.path.mkdir(parents=True, exist_ok=True)
        config.folder.write("resume.safetensors", changed)
        with pytest.raises(
            CheckpointError, match=r"resume.safetensors can't be continued: .*elete"
        ):
            load_or_train(config, "cpu", progress=False)
        assert file.is_file()
    file.unlink()
    load_or_train(config, "cpu", progress=False)


def test_runs_side_by_side_equal_runs_one_by_one(cache, monkeypatch):
    """Three configurations, one of them twice and one already there, in their order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    configs = [replace(SMALL, seed=seed) for seed in (1, 2, 1, 3)]
    alone = load_or_train(configs[1], "cpu", progress=False)
    together = load_or_train_all(configs, "cpu", progress=False)
    assert [run.config.seed for run in together] == [1, 2, 1, 3]
    assert together[1].record == alone.record  # found, not made again
    assert same_weights(together[0].model, together[2].model)
    monkeypatch.setenv("ADDLIB_CACHE", str(cache / "other"))
    assert same_weights(load_or_train(configs[3], "cpu", progress=False).model, together[3].model)


def test_two_layers_and_attention_only_train(cache):
    for model in (ModelConfig(n_layers=2, width=24), ModelConfig(width=24, attn_only=True)):
        run = load_or_train(replace(SMALL, model=model, steps=20), "cpu", progress=False)
        assert run.history.loss.isfinite().all()


def test_bf16_stays_close_to_fp32_and_is_another_run(cache):
    full, half = (
        load_or_train(replace(SMALL, precision=p), "cpu", progress=False) for p in ("fp32", "bf16")
    )
    assert full.config.folder.key != half.config.folder.key
    assert not torch.equal(full.history.loss, half.history.loss)
    assert torch.allclose(full.history.loss, half.history.loss, atol=0.05)


def test_full_size_steps_on_two_threads_always_give_the_same_weights():
    """Only then can a resumed run end where an uninterrupted one does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ends = []
        for _ in range(4):
            trainer = Trainer(TrainConfig(), "cpu")
            for _ in range(6):
                trainer.train_step()
            ends.append({name: p.detach().clone() for name, p in trainer.weights.items()})
    finally:
        torch.set_num_threads(threads)
    for name, first in ends[0].items():
        assert all(torch.equal(first, other[name]) for other in ends[1:]), name


TRAIN = """
import os, sys
from dataclasses import replace
from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.runs import load_or_train
from addlib.training.addition import TrainConfig
task, model, steps = AdditionTask(2), ModelConfig(width=24), int(sys.argv[1])
config = TrainConfig(task, model, steps=steps, snapshot_every=50, batch_size=16)
run = load_or_train(config, "cpu", progress=False)
print("steps trained here:", run.steps - run.record["sessions"][-1]["from_step"])
"""


def start_training(steps, cache):
    environment = {**os.environ, "ADDLIB_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(steps)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_training_resumes_to_identical_weights(tmp_path, monkeypatch):
    steps = 1000
    killed = start_training(steps, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("resume.safetensors")):
        assert time.monotonic() < deadline
        assert killed.poll() is None, "training ended before it could be killed"
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not list((tmp_path / "killed").rglob("run.json"))
    config = TrainConfig(
        task=AdditionTask(2),
        model=ModelConfig(width=24),
        steps=steps,
        snapshot_every=50,
        batch_size=16,
    )
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "killed"))
    resumed = load_or_train(config, "cpu", progress=False)
    first, last = resumed.record["sessions"]
    assert (
        0 == first["from_step"] < first["to_step"] == last["from_step"] < last["to_step"] == steps
    )
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "whole"))
    whole = load_or_train(config, "cpu", progress=False)
    (session,) = whole.record["sessions"]
    assert (session["from_step"], session["to_step"]) == (0, steps)
    assert same_weights(resumed.model, whole.model)
    for name, tensor in whole.history.tensors().items():
        assert torch.equal(
            tensor.nan_to_num(-1.0), resumed.history.tensors()[name].nan_to_num(-1.0)
        ), name


def test_two_processes_train_one_run_once(tmp_path):
    both = [start_training(600, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # both read the record of the one training
    assert all("steps trained here: 600" in text for text in outputs)
    assert sum("waiting for it to finish" in text for text in outputs) <= 1
    assert len(list(tmp_path.rglob("run.json"))) == 1


def finished(cache):
    run = load_or_train(SMALL, "cpu", progress=False)
    return run.config.folder.path


def test_truncated_checkpoint_is_refused(cache):
    file = finished(cache) / "weights-000060.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        CheckpointError,
        match=r"weights-000060.safetensors is damaged .* Delete the folder .* retrain",
    ):
        load_or_train(SMALL, "cpu", progress=False)


def test_checkpoint_with_one_altered_byte_is_refused(cache):
    file = finished(cache) / "weights-000060.safetensors"
    data = bytearray(file.read_bytes())
    data[-50] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="was altered after it was written"):
        load_or_train(SMALL, "cpu", progress=False)


def test_foreign_checkpoints_are_refused(cache):
    file = finished(cache) / "weights-000060.safetensors"
    other = replace(SMALL, seed=1)
    load_or_train(other, "cpu", progress=False)
    file.write_bytes((other.folder.path / file.name).read_bytes())
    with pytest.raises(CheckpointError, match="belongs to another run"):
        load_or_train(SMALL, "cpu", progress=False)
    save_file({"a": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match="was not written by addlib"):
        load_or_train(SMALL, "cpu", progress=False)
    SMALL.folder.write(file.name, {"a": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="other names, shapes or types"):
        load_or_train(SMALL, "cpu", progress=False)
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load_or_train(SMALL, "cpu", progress=False)


def test_damaged_or_foreign_record_is_refused(cache):
    record = finished(cache) / "run.json"
    text = record.read_text()
    record.write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=r"run.json is damaged"):
        load_or_train(SMALL, "cpu", progress=False)
    record.write_text(text.replace('"seed": 129000', '"seed": 1'))
    with pytest.raises(CheckpointError, match=r"run.json describes another run"):
        load_or_train(SMALL, "cpu", progress=False)


def test_a_full_disk_leaves_nothing_half_written(cache, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"could not write .*No space left on device; free some space"
    ):
        load_or_train(SMALL, "cpu", progress=False)
    assert not [
        path for path in cache.rglob("*") if path.suffix in (".safetensors", ".tmp", ".json")
    ]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps = 0: must be a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size = 1.5"),
        ({"lr": -1e-4}, r"lr = -0.0001: must be in \(0, 1\]"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"weight_decay": -0.1}, r"weight_decay = -0.1: must be in \[0, 10\]"),
        ({"beta2": 1.0}, r"beta2 = 1.0: must be in \[0, 1\)"),
        ({"enrich_share": 1.2}, r"enrich_share = 1.2: must be in \[0, 1\]"),
        ({"precision": "fp8"}, "precision = 'fp8': must be 'fp32' or 'bf16'"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_bad_configurations_are_refused_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**arguments)
    with pytest.raises(ValueError, match=r"device = 'cuda:99'"):
        load_or_train(SMALL, "cuda:99")


def test_key_covers_the_whole_configuration():
    variants = [
        SMALL,
        replace(SMALL, seed=1),
        replace(SMALL, lr=1e-4),
        replace(SMALL, task=AdditionTask(2, carry=False)),
        replace(SMALL, model=ModelConfig(width=24, attn_only=True)),
        replace(SMALL, enrich_every=0),
    ]
    assert len({config.folder.key for config in variants}) == len(variants)


def test_nll_is_minus_log_probability():
    logits = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(0))
    answer = torch.tensor([[1, 2], [3, 4], [0, 9]])
    expected = -logits.double().softmax(-1).gather(2, answer[:, :, None])[..., 0].log()
    assert torch.allclose(answer_nll(logits, answer), expected)


def test_memory_that_runs_short_at_a_resume_does_not_condemn_the_saved_state(cache, monkeypatch):
    def short(self, state):
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = replace(SMALL, steps=40, snapshot_every=20)
    trainer = config.trainer("cpu")
    trainer.train(20)
    config.folder.write("resume.safetensors", trainer.state())
    monkeypatch.setattr(addition.Trainer, "restore", short)
    with pytest.raises(
        torch.OutOfMemoryError, match="continues from its last saved step"
    ) as caught:
        load_or_train(config, "cpu", progress=False)
    assert "Delete" not in str(caught.value)
