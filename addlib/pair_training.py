"""Training on pairs: the whole training set at every step, AdamW, and the exact short forward that
makes it quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.bounds import check_whole, check_within
from addlib.checkpoints import RunFolder, cache_dir
from addlib.model import choose_device, weights
from addlib.pairs import PairModelConfig, PairTask, build_pair_model, split
from addlib.training import restore_training, training_state

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PAIR_TRAINING_VERSION = 1
"""Raised whenever the same configuration would train to other weights; part of every run's key."""


NEGLIGIBLE = 1e-30
"""Gradients below it count as 0. A model that has memorised its pairs gives wrong answers
probabilities of 1e-40 and less; in float32 such numbers are subnormal, and a processor multiplies
them several times more slowly than others.
"""


@dataclass(frozen=True)
class PairConfig:
    """Everything that determines a run on pairs. The defaults are the small task without
    wrap-around.

    Args:
        task, model: what is learned, and by which shape of transformer.
        share: of all pairs, for training.
        data_seed, seed: of the split, and of the initial weights.
        epochs: most steps; each sees every training pair.
        lr, weight_decay, beta1, beta2: AdamW, at a constant learning rate.
        biases: False freezes every bias at 0.
        snapshot_every: epochs between saved weights, from which an interrupted run resumes.
        test_every: epochs between measurements on the held-out pairs.
        stop_below, stop_for: training ends once the test loss was below ``stop_below`` nats at
            every measurement of ``stop_for`` epochs in a row; None never stops early.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    task: PairTask = field(default_factory=PairTask)
    model: PairModelConfig = field(default_factory=PairModelConfig)
    share: float = 0.72
    data_seed: int = 598
    seed: int = 999
    epochs: int = 5000
    lr: float = 1e-3
    weight_decay: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.98
    biases: bool = False
    snapshot_every: int = 100
    test_every: int = 10
    stop_below: float | None = None
    stop_for: int = 500

    def __post_init__(self) -> None:
        check_whole(
            self,
            {
                "data_seed": 0,
                "seed": 0,
                "epochs": 1,
                "snapshot_every": 1,
                "test_every": 1,
                "stop_for": 1,
            },
        )
        check_within(
            self, {"lr": (0, 1), "weight_decay": (0, 10), "beta1": (0, 1), "beta2": (0, 1)}
        )
        if not isinstance(self.biases, bool):
            raise ValueError(f"biases = {self.biases!r}: must be True or False")
        if self.stop_below is not None and not self.stop_below > 0:
            raise ValueError(f"stop_below = {self.stop_below!r}: must be None or above 0")
        split(self.task, self.share, self.data_seed)

    @property
    def steps(self) -> int:
        """Most optimiser steps, one an epoch."""
        return self.epochs

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept; its key covers this configuration and the training version."""
        description = {"pair_training_version": PAIR_TRAINING_VERSION, **asdict(self)}
        name = f"pairs-p{self.task.p}-{'mod' if self.task.modular else 'sum'}-s{self.epochs}"
        return RunFolder(name, description, cache_dir())

    def build(self, device: str = "cpu") -> TransformerBridge:
        """The untrained model."""
        return build_pair_model(self.model, self.task, self.seed, device, self.biases)

    def trainer(self, device: str = "auto") -> PairTrainer:
        """A training at its beginning."""
        return PairTrainer(self, device)

    def empty_history(self, steps: int) -> PairHistory:
        """A history of so many epochs, to be filled."""
        return PairHistory.empty(steps)


@dataclass(frozen=True)
class PairHistory:
    """What was recorded; entry t is of the weights after t epochs, so there is one more entry than
    epochs.

    Losses are means of -log p(right answer) in nats. Tests are NaN at epochs where nothing was
    tested: see :attr:`tested`. An accuracy is the share of pairs whose largest logit is the right
    one.
    """

    loss: Float[Tensor, " epochs_and_1"]  # of the training pairs
    weight_norm: Float[Tensor, " epochs_and_1"]  # sum of squares of all weights
    accuracy: Float[
        Tensor, " epochs_and_1"
    ]  # of the training pairs, measured together with the tests
    test_loss: Float[Tensor, " epochs_and_1"]
    test_accuracy: Float[Tensor, " epochs_and_1"]

    @classmethod
    def empty(cls, epochs: int, device: torch.device | str = "cpu") -> PairHistory:
        size = (epochs + 1,)
        return cls(
            **{
                f.name: torch.full(size, float("nan"), dtype=torch.float64, device=device)
                for f in fields(cls)
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def until(self, epochs: int) -> PairHistory:
        """The history of the first so many epochs."""
        return PairHistory(**{name: value[: epochs + 1] for name, value in self.tensors().items()})

    @property
    def tested(self) -> Int[Tensor, " tests"]:
        """Epochs after which the held-out pairs were measured."""
        return (~self.test_accuracy.isnan()).nonzero()[:, 0]


class PairForward:
    """Logits at ``=`` of a one-layer model without normalisation: equal to the library's, for a
    part of its work.

    1. Only the last position's logits are used, so queries, W_O, the MLP and the unembedding are
        needed there only.
    2. That position always holds ``=``, so its query is one vector, and its score on a number
       depends on that number and its position alone: p numbers per head and position. Values are
       such tables, too.
    3. A pattern sums to 1. With the value at ``=`` taken from the others, ``=`` adds a constant.
    4. Nothing but the ReLU stands between a head's output z and the logits, so W_in W_O and W_U
       W_out can be single matrices, multiplied once for all pairs where there are many.

    Args:
        weights: the bridge's parameters by name, from :func:`addlib.model.weights`; they receive
            the gradients.
        config, task: the bridge's shape, and the task whose pairs come in.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: PairModelConfig, task: PairTask
    ) -> None:
        self.weights, self.config, self.task = weights, config, task

    def __call__(self, pairs: Int[Tensor, "pairs 2"]) -> Float[Tensor, "pairs n_outputs"]:
        """Logits of the answers; numbers must be below p and on the weights' device."""
        w, block = self.weights, "blocks.0."
        z, always = self._attention(pairs)
        write, read = w[block + "attn.o.weight"], w[block + "mlp.in.weight"]
        out, unembed = w[block + "mlp.out.weight"], w["unembed.weight"]
        hidden = _two_maps(always @ read.T + w[block + "mlp.in.bias"], z, write, read).relu_()
        direct = _two_maps((always + w[block + "mlp.out.bias"]) @ unembed.T, z, write, unembed)
        return _two_maps(direct, hidden, out, unembed)

    def _attention(
        self, pairs: Tensor
    ) -> tuple[Float[Tensor, "pairs d_model"], Float[Tensor, "1 d_model"]]:
        """All heads' z at ``=`` less their values of ``=``, and the part of resid_mid that all
        pairs share.
        """
        heads, d_head, p = self.config.n_heads, self.config.d_head, self.task.p
        embed, position = self.weights["embed.weight"], self.weights["pos_embed.weight"]
        equals = embed[p:] + position[2:]
        source = torch.cat(
            [embed[:p] + position[0], embed[:p] + position[1], equals]
        )  # (2p + 1, d_model)
        q = self._linear("q", equals).view(heads, d_head, 1)
        k, v = self._linear("k", source), self._linear("v", source)
        scores = (k.view(-1, heads, d_head).transpose(0, 1) @ q)[
            ..., 0
        ].T / d_head**0.5  # (2p + 1, heads)
        rows = pairs + pairs.new_tensor([0, p])  # (pairs, 2)
        # F.embedding, not indexing: the gradient of indexing adds up in any order when there are
        # several threads.
        on_numbers = F.embedding(rows, scores)  # (pairs, 2, heads)
        on_equals = scores[-1:].expand(len(pairs), 1, heads)
        pattern = torch.cat([on_numbers, on_equals], 1).softmax(1)[
            ..., None
        ]  # (pairs, 3, heads, 1)
        values = v[:-1] - v[-1]
        from_a, from_b = (F.embedding(rows[:, i], values).view(-1, heads, d_head) for i in (0, 1))
        z = torch.addcmul(pattern[:, 0] * from_a, pattern[:, 1], from_b).flatten(1)
        return z, equals + self._linear("o", v[-1:])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(
            x,
            self.weights[f"blocks.0.attn.{name}.weight"],
            self.weights[f"blocks.0.attn.{name}.bias"],
        )


def _two_maps(start: Tensor, x: Tensor, first: Tensor, second: Tensor) -> Float[Tensor, "rows out"]:
    """``start + x @ first.T @ second.T``, multiplied in the order that takes fewer multiplications."""
    rows, (middle, inner), outer = len(x), first.shape, len(second)
    if rows * middle * (inner + outer) < inner * outer * (middle + rows):
        return torch.addmm(start, x @ first.T, second.T)
    return torch.addmm(start, x, (second @ first).T)


@torch.no_grad()
def loss_and_gradient(
    logits: Float[Tensor, "pairs n_outputs"], answers: Int[Tensor, " pairs"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "pairs n_outputs"]]:
    """Mean of -log p(right answer) in nats, and its gradient in the logits, both through one
    softmax in float64.

    In float32 a loss below about 1e-7 would be rounded to 0, and training would stop there.
    """
    shifted = logits.double()
    shifted -= shifted.amax(-1, keepdim=True)
    truth = shifted.gather(1, answers[:, None])
    weight = shifted.exp_()
    total = weight.sum(-1, keepdim=True)
    loss = (total.log() - truth).mean()
    gradient = weight.div_(total * len(logits))
    gradient.scatter_add_(1, answers[:, None], torch.full_like(truth, -1 / len(logits)))
    return loss, F.hardshrink(gradient, NEGLIGIBLE).to(logits.dtype)


def accuracy(
    logits: Float[Tensor, "pairs n_outputs"], answers: Int[Tensor, " pairs"]
) -> Float[Tensor, ""]:
    """Share of pairs whose largest logit is the right one."""
    return (logits.argmax(-1) == answers).double().mean()


class PairTrainer:
    """One training on pairs in progress: model, optimiser, both sets and history, all on one
    device.
    """

    def __init__(self, config: PairConfig, device: str = "auto") -> None:
        self.config, self.device, self.step, self.done = config, choose_device(device), 0, False
        self.model = config.build(str(self.device))
        every = weights(self.model)
        self.forward = PairForward(every, config.model, config.task)
        self.weights = {name: p for name, p in every.items() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        pairs = config.task.pairs()
        sides = [pairs[side] for side in split(config.task, config.share, config.data_seed)]
        self.train, self.test = (side.to(self.device) for side in sides)
        self.train_answers, self.test_answers = (
            config.task.answers(side) for side in (self.train, self.test)
        )
        self.history = PairHistory.empty(config.epochs, self.device)

    def train_step(self) -> None:
        """Measure, then take one optimiser step; after the last one, measure once more. Waits only
        for tests.
        """
        logits, gradient = self._measure(tests=self.step % self.config.test_every == 0)
        self.optimizer.zero_grad()
        logits.backward(gradient)
        self.optimizer.step()
        self.done = self.step + 1 >= self.config.epochs or self._rests()
        self.step += 1
        if self.done:
            self._measure(tests=True)
            self.history = self.history.until(self.step)

    def _measure(self, tests: bool) -> tuple[Tensor, Tensor]:
        history, t = self.history, self.step
        logits = self.forward(self.train)
        history.loss[t], gradient = loss_and_gradient(logits, self.train_answers)
        history.weight_norm[t] = torch.nn.utils.get_total_norm(
            [p.detach() for p in self.weights.values()]
        ).square()
        if tests:
            history.accuracy[t] = accuracy(logits, self.train_answers)
            with torch.no_grad():
                held_out = self.forward(self.test)
            history.test_loss[t] = loss_and_gradient(held_out, self.test_answers)[0]
            history.test_accuracy[t] = accuracy(held_out, self.test_answers)
        return logits, gradient

    def _rests(self) -> bool:
        """Whether the stop rule holds; looked at where a test was just made."""
        config, t = self.config, self.step
        if config.stop_below is None or t < config.stop_for or t % config.test_every:
            return False
        recent = self.history.test_loss[t - config.stop_for : t + 1]
        return bool((recent[~recent.isnan()] < config.stop_below).all())

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as if never stopped."""
        return training_state(self)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`."""
        restore_training(self, state)
