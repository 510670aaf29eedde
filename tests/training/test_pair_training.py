"""Training on pairs: records against plain re-computation, the plain loop, resuming, the stop rule,
bad input.
"""

from dataclasses import replace

import pytest
import torch

import addlib.training.pairs
from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.models.pairs import PairModelConfig, loss_and_gradient, pair_logits
from addlib.store import CheckpointError
from addlib.tasks.addition import AdditionTask
from addlib.tasks.pairs import PairTask, split
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig, PairHistory
from addlib.training.runs import RUNS, load_or_train, load_or_train_all
from models import same_weights

pytestmark = pytest.mark.depends_on()

SMALL = PairConfig(
    PairTask(7, modular=True), PairModelConfig(2, 16), share=0.6, epochs=60, snapshot_every=20
)


def same_history(a, b):
    return all(
        torch.equal(x.nan_to_num(-1.0), y.nan_to_num(-1.0))
        for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True)
    )


def plain_record(model, config):
    """Losses, accuracies and weight norm of a model, from the library's forward."""
    pairs, answers = config.task.pairs(), config.task.answers(config.task.pairs())
    logits = pair_logits(model, config.task, pairs).detach().double()
    nll = -logits.log_softmax(-1).gather(1, answers[:, None])[:, 0]
    right = (logits.argmax(-1) == answers).double()
    train, test = split(config.task, config.share, config.data_seed)
    return {
        "loss": nll[train].mean().item(),
        "weight_norm": sum(float((p.detach() ** 2).sum()) for p in model.parameters()),
        "accuracy": right[train].mean().item(),
        "test_loss": nll[test].mean().item(),
        "test_accuracy": right[test].mean().item(),
    }


def test_entry_t_of_the_history_is_of_the_weights_after_t_epochs(cache):
    config = replace(SMALL, epochs=45, test_every=10)
    run = load_or_train(config, "cpu", progress=False)
    assert run.history.loss.shape == (46,) and run.history.loss.isfinite().all()
    assert run.history.tested.tolist() == [0, 10, 20, 30, 40, 45]
    right = torch.full((46,), float("nan"))
    right[run.history.tested] = torch.tensor([0.0, 0.2, 0.5, 0.4, 0.9, 1.0])
    assert run.history.first_right(right, 0.4) == 20
    assert run.history.first_right(right) == 45
    assert run.history.first_right(0.5 * right) is None
    for epochs in run.snapshot_steps:
        expected = plain_record(run.model_at(epochs), config)
        for name, values in run.history.tensors().items():
            assert values[epochs].item() == pytest.approx(expected[name], rel=1e-5), (name, epochs)


@pytest.mark.parametrize(("biases", "unordered"), [(False, False), (True, True)])
def test_training_equals_a_plain_loop(biases, unordered):
    """The library's forward, autograd's loss and AdamW on the weights that are trained, for some
    steps.
    """
    config = replace(SMALL, biases=biases, share=0.5, unordered=unordered)
    trainer, model = config.trainer("cpu"), config.build()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0)
    pairs = config.task.pairs()[split(config.task, 0.5, config.data_seed, unordered)[0]]
    for _ in range(30):
        trainer.train_step()
        log_probs = pair_logits(model, config.task, pairs).double().log_softmax(-1)
        optimizer.zero_grad()
        (-log_probs.gather(1, config.task.answers(pairs)[:, None])).mean().backward()
        optimizer.step()
    start = weights(config.build())
    for name, p in weights(model).items():
        if not name.endswith("k.bias"):  # its gradient is 0 up to rounding, which AdamW blows up
            assert torch.allclose(weights(trainer.model)[name], p, atol=1e-4), name
            assert (p - start[name]).abs().max() > 0.01 or not p.requires_grad, name
        assert p.requires_grad or not weights(trainer.model)[name].any(), name


def test_gradients_are_those_of_the_loss_and_none_is_subnormal():
    # of a model that has memorised
    logits = 60 * torch.randn(50, 113, generator=torch.Generator().manual_seed(1))
    answers = logits.argmax(1)
    loss, gradient = loss_and_gradient(logits, answers)
    wanted = logits.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(wanted, answers)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient.double(), wanted.grad, rtol=1e-6, atol=1e-17)
    smallest = torch.finfo(torch.float32).tiny
    assert (wanted.grad.abs() < smallest).any(), "the case is not extreme enough"
    assert not ((gradient != 0) & (gradient.abs() < smallest)).any()


def test_without_wrap_around_it_learns_and_is_loaded_back(cache):
    config = PairConfig(PairTask(5), PairModelConfig(2, 32), share=0.8, epochs=300)
    run = load_or_train(config, "cpu", progress=False)
    assert run.history.accuracy[-1] == 1 and run.history.loss[-1] < 0.01 * run.history.loss[0]
    again = load_or_train(config, "cpu", progress=False)
    assert again.record == run.record and again.steps == 300
    assert same_weights(run.model, again.model) and same_history(run.history, again.history)


def test_stacked_snapshots_hold_every_kept_weight(cache):
    run = load_or_train(replace(SMALL, epochs=50), "cpu", progress=False)
    assert run.snapshot_steps == [0, 20, 40, 50]
    stacked = run.stacked_snapshots()
    assert stacked.keys() == weights(run.model).keys()
    for i, epochs in enumerate(run.snapshot_steps):
        for name, values in run.snapshot(epochs).items():
            assert torch.equal(stacked[name][i], values)
    some = run.stacked_snapshots(every=2)
    assert all(torch.equal(some[name], stacked[name][[0, 2]]) for name in stacked)


def test_an_interrupted_training_resumes_to_identical_weights(cache, monkeypatch):
    # the stop rule looks back across the interruption
    config = replace(SMALL, stop_below=1e3, stop_for=49)
    whole = load_or_train(config, "cpu", progress=False)
    assert (whole.record["sessions"][0]["to_step"], whole.steps) == (51, 51)

    class Interrupted(Exception):
        pass

    class Fragile(addlib.training.pairs.PairTrainer):
        def train_step(self):
            if self.step == 47:
                raise Interrupted
            super().train_step()

    monkeypatch.setenv("ADDLIB_CACHE", str(cache / "interrupted"))
    with monkeypatch.context() as patched:
        patched.setattr(addlib.training.pairs, "PairTrainer", Fragile)
        with pytest.raises(Interrupted):
            load_or_train(config, "cpu", progress=False)
    resumed = load_or_train(config, "cpu", progress=False)
    assert [session["to_step"] for session in resumed.record["sessions"]] == [40, 51]
    assert same_weights(resumed.model, whole.model) and same_history(resumed.history, whole.history)


def test_training_stops_once_the_test_loss_has_stayed_low(cache):
    config = PairConfig(
        PairTask(8), PairModelConfig(2, 32), 0.8, epochs=600, stop_below=1.0, stop_for=100
    )
    run = load_or_train(config, "cpu", progress=False)
    history, last = run.history, run.steps
    assert 110 < last < 600 and run.record["steps"] == last
    assert run.snapshot_steps == [*range(0, last, 100), last] and len(history.loss) == last + 1
    assert len(list(config.folder.path.glob("weights-*"))) == len(run.snapshot_steps)
    low = history.test_loss[history.tested] < 1.0
    # the first measurement of the last unbroken series
    since = int(history.tested[~low][-1]) + config.test_every
    assert last == since + 100 + 1
    assert load_or_train(config, "cpu", progress=False).snapshot_steps == run.snapshot_steps
    never = load_or_train(replace(config, epochs=150, stop_below=1e-30), "cpu", progress=False)
    assert never.steps == 150


def test_a_series_that_is_broken_starts_anew():
    trainer = replace(SMALL, stop_below=0.5, stop_for=20).trainer("cpu")
    trainer.history = PairHistory.empty(60)
    for epoch, loss in ((0, 9.0), (10, 0.1), (20, 0.9), (30, 0.1), (40, 0.1), (50, 0.1)):
        trainer.history.test_loss[epoch] = loss
    rests = []
    for trainer.step in range(51):
        if trainer._rests():
            rests.append(trainer.step)
    assert rests == [50]


def test_runs_of_both_kinds_side_by_side_equal_runs_one_by_one(cache, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    digits = TrainConfig(AdditionTask(2), ModelConfig(width=24), steps=20, batch_size=16, seed=2)
    configs = [replace(SMALL, seed=1, epochs=20), digits, replace(SMALL, seed=1, epochs=20)]
    together = load_or_train_all(configs, "cpu", progress=False)
    assert [run.config for run in together] == configs
    assert same_weights(together[0].model, together[2].model)
    monkeypatch.setenv("ADDLIB_CACHE", str(cache / "other"))
    for run in together[:2]:
        alone = load_or_train(run.config, "cpu", progress=False)
        assert same_weights(alone.model, run.model) and torch.equal(
            alone.history.loss, run.history.loss
        )


def test_full_size_steps_on_two_threads_always_give_the_same_weights():
    """Only then can a resumed run end where an uninterrupted one does."""
    threads, config, ends = torch.get_num_threads(), RUNS["grokking"], []
    torch.set_num_threads(2)
    try:
        for _ in range(3):
            trainer = config.trainer("cpu")
            for _ in range(4):
                trainer.train_step()
            ends.append({name: p.detach().clone() for name, p in trainer.weights.items()})
    finally:
        torch.set_num_threads(threads)
    for name, first in ends[0].items():
        assert all(torch.equal(first, other[name]) for other in ends[1:]), name


def test_a_shortened_run_is_refused(cache):
    run = load_or_train(SMALL, "cpu", progress=False)
    record = run.config.folder.path / "run.json"
    record.write_text(record.read_text().replace('"steps": 60', '"steps": 40'))
    with pytest.raises(
        CheckpointError, match=r"history.safetensors holds tensors of other names, shapes or types"
    ):
        load_or_train(SMALL, "cpu", progress=False)


def test_key_covers_the_whole_configuration():
    changes = [
        {},
        {"task": PairTask(7)},
        {"task": PairTask(8, modular=True)},
        {"model": PairModelConfig(4, 16)},
        {"biases": True},
        {"data_seed": 1},
        {"weight_decay": 0.0},
        {"stop_below": 1e-6},
        {"unordered": True},
    ]
    assert len({replace(SMALL, **change).folder.key for change in changes}) == len(changes)
    assert (
        RUNS["grokking"].folder.key == "c55ac43823fb"
    )  # its training is long: the cache must find it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs = 0: must be a whole number of at least 1"),
        ({"share": 1.0}, "share = 1.0: must be between 0 and 1"),
        ({"share": 0.001}, "leave pairs of p = 10 on both sides"),
        ({"lr": 0.0}, r"lr = 0.0: must be in \(0, 1\]"),
        ({"weight_decay": -1.0}, r"weight_decay = -1.0: must be in \[0, 10\]"),
        ({"beta2": 1.0}, r"beta2 = 1.0: must be in \[0, 1\)"),
        ({"biases": 0}, "biases = 0: must be True or False"),
        ({"unordered": 1}, "unordered = 1: must be True or False"),
        ({"stop_below": 0.0}, "stop_below = 0.0: must be None or above 0"),
        ({"stop_below": float("nan")}, "stop_below = nan"),
        ({"stop_for": 0}, "stop_for = 0"),
        ({"test_every": 0}, "test_every = 0"),
        ({"data_seed": -1}, "data_seed = -1"),
    ],
)
def test_bad_configurations_are_refused_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        PairConfig(**arguments)
