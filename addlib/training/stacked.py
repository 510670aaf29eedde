"""Trainings of several models of one shape whose steps are taken together.

The models' weights are stacked, with the model as first axis, and their forward is that of one
model, mapped over this axis. AdamW updates the stacked weights where learning rates and decay are
the same for all, else each model's part. All that changes from step to step is a tensor on the device: a
counter picks batches and learning rates from tables and the place of each metric in the history. So
on a GPU the step is recorded once as a CUDA graph and launched as a whole, and takes hardly longer
for many small models than for one.

On a CPU this gains nothing: the book trains there model by model. It is the same code, though, and
gives the weights of :mod:`addlib.training.addition` and :mod:`addlib.training.pairs` up to rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.device import choose_device
from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, aligned_weights, covers
from addlib.models.pairs import PairForward, accuracy, loss_and_gradient
from addlib.stats import answer_nll
from addlib.tasks.addition import Questions
from addlib.training.addition import QUESTIONS_AHEAD, QuestionStream, TrainConfig, step_metrics
from addlib.training.graph import recorded
from addlib.training.pairs import PairConfig

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST_STEPS = 500
"""Steps between two looks from the host at whether trainings have ended."""


def stack_key(config: TrainConfig | PairConfig) -> Hashable | None:
    """What must be equal for trainings to be stacked; None for one that can't be, in bf16."""
    betas = (config.beta1, config.beta2)
    if isinstance(config, PairConfig):
        tests = (config.test_every, config.stop_for)
        sizes = [len(side) for side in config.sides()]
        return (config.task, config.model, *sizes, config.biases, betas, tests)
    if config.precision != "fp32":
        return None
    # Carries change the answers, which are data; the shape is the same without them.
    return (replace(config.task, carry=True), config.model, config.batch_size, betas)


def stacked_trainer(
    configs: Sequence[TrainConfig | PairConfig], device: str = "auto"
) -> StackedTrainer:
    """Trainings at their beginning, whose :func:`stack_key` is the same."""
    kind: type[StackedTrainer] = StackedAdditions
    if isinstance(configs[0], PairConfig):
        kind = StackedPairs
    return kind(configs, device)


class StackedTrainer(ABC):
    """Trainings of one shape in progress, all after the same number of steps.

    A training that ends before the others keeps its weights: its learning rate is 0 from there on.

    Attributes:
        models: the bridges; their parameters are views of the stacked weights.
        step: the number of steps that the device was given to do; it may still be at them.
        ends: after how many steps each training ends, as far as the host knows.
        history: what was recorded, by name; axes are step, model, and the metric's own.
    """

    kinds: tuple[str, ...] = ("step",)
    """The kinds of steps, each of which is a graph of its own."""

    def __init__(self, configs: Sequence[Any], device: str = "auto") -> None:
        if len({stack_key(config) for config in configs}) != 1 or stack_key(configs[0]) is None:
            raise ValueError(f"{len(configs)} trainings: must be of one shape, in fp32")
        self.configs = list(configs)
        self.device = choose_device(device)
        self.step = 0
        self.ends = [config.steps for config in configs]
        self.models = [config.build(str(self.device)) for config in configs]
        self.weights = self._stacked()
        self.trained = [name for name, p in weights(self.models[0]).items() if p.requires_grad]
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.rates = self._rates()
        self.rate = torch.zeros(len(configs), device=self.device)
        self.optimizer = self._optimizer()
        history = configs[0].empty_history(max(self.ends))
        self.history = {
            name: values[:, None].repeat_interleave(len(configs), 1).to(self.device)
            for name, values in history.tensors().items()
        }
        self.take: dict[str, Callable[[], None]] = {
            kind: partial(self.take_step, kind) for kind in self.kinds
        }
        self.stream: torch.cuda.Stream | None = None

    # ---------------------------------------------------------------- what a step works on
    def _values(self, model: TransformerBridge) -> dict[str, Tensor]:
        """A model's weights by name in the form that is stacked."""
        return weights(model)

    def _stacked(self) -> dict[str, Float[Tensor, "models ..."]]:
        """The models' weights by name; each model's parameters become views of them."""
        each = [self._values(model) for model in self.models]
        stacked = {}
        for name, value in each[0].items():
            stacked[name] = torch.stack([values[name].detach() for values in each])
            stacked[name].requires_grad_(value.requires_grad)
        for number, model in enumerate(self.models):
            for name, p in weights(model).items():
                own = stacked[name].detach()[number]
                p.data = own[tuple(slice(side) for side in p.shape)]
        return stacked

    def _rates(self) -> Float[Tensor, "steps models"]:
        """Learning rates; 0 after a training's end."""
        rates = torch.zeros(max(self.ends), len(self.configs))
        for number, config in enumerate(self.configs):
            rates[: config.steps, number] = torch.tensor(self._rates_of(config))
        return rates.to(self.device)

    @abstractmethod
    def _rates_of(self, config: Any) -> list[float]:
        """The learning rate of each step."""

    def _alike(self) -> bool:
        """Whether the optimiser treats all models alike at every step."""
        rates_differ = bool((self.rates != self.rates[:, :1]).any())
        return not rates_differ and len({config.weight_decay for config in self.configs}) == 1

    def _optimizer(self) -> torch.optim.AdamW:
        """AdamW with its state before the first step: one group of all models, or one for each."""
        whole = {name: self.weights[name].detach() for name in self.trained}
        self.own = [
            {name: values[number] for name, values in whole.items()}
            for number in range(len(self.configs))
        ]
        self.is_whole = self._alike()
        self.updated = [whole] if self.is_whole else self.own
        groups = [
            {"params": list(part.values()), "lr": rate, "weight_decay": config.weight_decay}
            for part, rate, config in zip(self.updated, self.rate, self.configs, strict=False)
        ]
        betas = (self.configs[0].beta1, self.configs[0].beta2)
        optimizer = torch.optim.AdamW(groups, betas=betas, fused=True, capturable=True)
        for part in self.updated:
            for p in part.values():
                optimizer.state[p] = {
                    "step": torch.zeros((), device=self.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        return optimizer

    def _adam_state(self, number: int) -> Iterator[tuple[str, Tensor]]:
        """What AdamW keeps of one model, by the name that a trainer of its own gives it."""
        part = self.updated[0 if self.is_whole else number]
        for name, p in part.items():
            for key, value in self.optimizer.state[p].items():
                one_for_all = self.is_whole and key != "step"
                yield f"adam.{key}.{name}", value[number] if one_for_all else value

    def changed(self) -> list[Tensor]:
        """All tensors that steps change and that the next step starts from."""
        adam = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.weights.values(), *adam, *self.history.values(), self.counter]

    # ---------------------------------------------------------------------------- steps
    @abstractmethod
    def take_step(self, kind: str) -> None:
        """Take one step of this kind for all models. The host waits for nothing."""

    def kind_of(self, step: int) -> str:
        """The kind of a step, counted from 0."""
        return self.kinds[0]

    def most_steps(self) -> int:
        """Steps that can be prepared at once."""
        return MOST_STEPS

    @abstractmethod
    def prepare(self, steps: int) -> None:
        """Bring what the next so many steps need to the device."""

    def record_graphs(self) -> None:
        """From here on, let each step be one launch on a stream of its own.

        Raises:
            RuntimeError: such a step can't be recorded on this device, or memory is short.
        """
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.take = {
                kind: recorded(partial(self.take_step, kind), self.changed(), stream)
                for kind in self.kinds
            }
        self.stream = stream

    def advance(self, to: int) -> None:
        """Take the steps up to number ``to``, without waiting for the device."""
        with torch.cuda.stream(self.stream):
            while self.step < to:
                count = min(self.most_steps(), to - self.step)
                self.prepare(count)
                for step in range(self.step, self.step + count):
                    self.take[self.kind_of(step)]()
                self.step += count

    @property
    def done(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= max(self.ends)

    @abstractmethod
    def look(self) -> None:
        """See which trainings have ended meanwhile by a rule; waits for the device if one can."""

    def _update(
        self, gradients: Sequence[Float[Tensor, "models ..."]], rate: Float[Tensor, " models"]
    ) -> Float[Tensor, " models"]:
        """Take the optimiser's step with these gradients and rates; the norms of the gradients."""
        # Fused AdamW reads memory in its order, whatever the strides.
        dense = [gradient.contiguous() for gradient in gradients]
        for number, part in enumerate(self.updated):
            for p, gradient in zip(part.values(), dense, strict=True):
                p.grad = gradient if self.is_whole else gradient[number]
        self.rate.copy_(rate)
        self.optimizer.step()
        return _squared_norms(dense).sqrt()

    def _record(self, **metrics: Float[Tensor, "models ..."]) -> None:
        """Store metrics of this step."""
        for name, value in metrics.items():
            kept = self.history[name]
            kept.index_copy_(0, self.counter, value.detach()[None].to(kept.dtype))

    # ----------------------------------------------------------------- what is kept of it
    def finished(self, number: int) -> Any:
        """A training's history, once it has ended."""
        empty = self.configs[number].empty_history(self.ends[number])
        return replace(empty, **self._history(number, empty))

    def _history(self, number: int, like: Any) -> dict[str, Tensor]:
        return {
            name: self.history[name][: len(values), number]
            for name, values in like.tensors().items()
        }

    def state(self, number: int) -> dict[str, Tensor]:
        """Everything that one training needs to go on, also in a trainer of its own."""
        config = self.configs[number]
        state = {"step": torch.tensor(self.step)}
        for name, values in self._history(number, config.empty_history(config.steps)).items():
            state[f"history.{name}"] = values
        for name, p in self.own[number].items():
            state[f"weights.{name}"] = p
        return state | dict(self._adam_state(number))

    @torch.no_grad()
    def restore(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Continue from the trainings' states, all after the same number of steps."""
        self.step = int(states[0]["step"])
        self.counter.fill_(self.step)
        for number, (state, own) in enumerate(zip(states, self.own, strict=True)):
            config = self.configs[number]
            for name, values in self._history(number, config.empty_history(config.steps)).items():
                values.copy_(state.get(f"history.{name}", values))
            for name, p in own.items():
                p.copy_(state[f"weights.{name}"])
            for name, value in self._adam_state(number):
                value.copy_(state[name])


def _squared_norms(tensors: Sequence[Float[Tensor, "models ..."]]) -> Float[Tensor, " models"]:
    """The squared norm of all of a model's tensors together."""
    return torch.stack([tensor.flatten(1).square().sum(1) for tensor in tensors]).sum(0)


class StackedAdditions(StackedTrainer):
    """Trainings of addition models of one shape; tasks, questions and optimisers may differ."""

    configs: list[TrainConfig]

    def __init__(self, configs: Sequence[TrainConfig], device: str = "auto") -> None:
        super().__init__(configs, device)
        task = self.configs[0].task
        self.sizes = (task.n_ctx, task.n_answer, task.n_digits, 1)
        shape = (self.most_steps(), len(configs), self.configs[0].batch_size, sum(self.sizes))
        # Before any is drawn, all are 0 + 0: a graph is recorded with them.
        nothing = _labelled(Questions.of(task, [(0, 0)]))
        self.table = nothing.expand(shape).to(self.device, copy=True)
        self.first = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.streams = [QuestionStream(config) for config in configs]
        self.forward = self._forward()

    def _values(self, model: TransformerBridge) -> dict[str, Tensor]:
        return aligned_weights(model) if covers(self.configs[0].model) else weights(model)

    def _rates_of(self, config: TrainConfig) -> list[float]:
        return [config.lr_at(step) for step in range(config.steps)]

    def _forward(self) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        """Logits of one model from its weights by name and its tokens."""
        config = self.configs[0]
        task = config.task
        if covers(config.model):
            short = FastForward(self.own[0], config.model, task)
            return lambda values, tokens: short.with_weights(values)(tokens)
        model = self.models[0]
        name_of = {id(p): name for name, p in weights(model).items()}
        names = {inner: name_of[id(p)] for inner, p in model.named_parameters()}
        positions = slice(task.answer_positions.start, task.answer_positions.stop)

        def library(values: dict[str, Tensor], tokens: Tensor) -> Tensor:
            parameters = {inner: values[name] for inner, name in names.items()}
            logits = torch.func.functional_call(model, parameters, (tokens,), tie_weights=False)
            return task.by_column(logits[:, positions])

        return library

    def most_steps(self) -> int:
        return max(1, QUESTIONS_AHEAD // self.configs[0].batch_size)

    def prepare(self, steps: int) -> None:
        """Draw the questions of the next steps on the CPU, the same as for every device."""
        batch_size = self.configs[0].batch_size
        columns = []
        for stream in self.streams:
            labelled = _labelled(stream.take(steps))
            columns.append(labelled.unflatten(0, (steps, batch_size)))
        ahead = torch.stack(columns, 1)
        if self.stream is not None:
            ahead = ahead.pin_memory()
        self.table[:steps].copy_(ahead, non_blocking=True)
        self.first.fill_(self.step)

    def look(self) -> None:
        """Nothing: only the number of steps ends these trainings."""

    def take_step(self, kind: str) -> None:
        row = self.counter - self.first
        questions = self.table.index_select(0, row)[0].long()  # (models, batch, columns)
        tokens, answer, bucket, of_class = questions.split(self.sizes, -1)
        logits = torch.vmap(self.forward)(self.weights, tokens)
        nll = answer_nll(logits, answer)  # (models, batch, n_answer)
        trained = [self.weights[name] for name in self.trained]
        gradients = torch.autograd.grad(nll.mean((1, 2)).sum(), trained)
        rate = self.rates.index_select(0, self.counter)[0]
        norms = self._update(gradients, rate)
        self._record(
            **step_metrics(nll.detach(), bucket, of_class[..., 0]), grad_norm=norms, lr=rate
        )
        self.counter.add_(1)

    def state(self, number: int) -> dict[str, Tensor]:
        return super().state(number) | {"generator": self.streams[number].state}

    def restore(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        super().restore(states)
        self.first.fill_(self.step)
        for stream, state in zip(self.streams, states, strict=True):
            stream.restore(self.step, state["generator"])


def _labelled(questions: Questions) -> Int[Tensor, "batch columns"]:
    """Tokens, answer, buckets and class of questions side by side, a byte each."""
    of_class = questions.question_class[:, None]
    parts = [questions.tokens, questions.answer, questions.bucket, of_class]
    return torch.cat(parts, 1).to(torch.uint8)


class StackedPairs(StackedTrainer):
    """Trainings on pairs of one task; splits, seeds and optimisers may differ.

    Whether the stop rule holds is worked out on the device. The model's learning rate is 0 from
    there on, so that its weights stay until the host looks.
    """

    configs: list[PairConfig]
    kinds = ("step", "tested step")

    def __init__(self, configs: Sequence[PairConfig], device: str = "auto") -> None:
        super().__init__(configs, device)
        task = self.configs[0].task
        short = PairForward(self.own[0] | self._frozen(), self.configs[0].model, task)
        self.forward = lambda values, pairs: short.with_weights(values)(pairs)
        pairs = task.pairs()
        sides = [config.sides() for config in configs]
        self.pairs = [
            torch.stack([pairs[side[which]] for side in sides]).to(self.device) for which in (0, 1)
        ]
        self.answers = [task.answers(which) for which in self.pairs]
        # after how many steps each training ends
        self.ended = torch.tensor(self.ends, device=self.device)
        never = -float("inf")
        self.stop_below = torch.tensor(
            [never if config.stop_below is None else config.stop_below for config in configs],
            dtype=torch.float64,
            device=self.device,
        )

    def _frozen(self) -> dict[str, Tensor]:
        return {
            name: values[0] for name, values in self.weights.items() if name not in self.trained
        }

    def _rates_of(self, config: PairConfig) -> list[float]:
        return [config.lr] * config.steps

    def _alike(self) -> bool:
        return super()._alike() and all(config.stop_below is None for config in self.configs)

    def changed(self) -> list[Tensor]:
        return [*super().changed(), self.ended]

    def kind_of(self, step: int) -> str:
        return self.kinds[step % self.configs[0].test_every == 0]

    def prepare(self, steps: int) -> None:
        """Nothing: every step sees all training pairs."""

    def take_step(self, kind: str) -> None:
        tested = kind == self.kinds[1]
        logits, gradient = self._measure(tested)
        trained = [self.weights[name] for name in self.trained]
        gradients = torch.autograd.grad(logits, trained, gradient)
        rate = self.rates.index_select(0, self.counter)[0]
        self._update(gradients, rate * (self.counter < self.ended))
        if tested:
            self._end_where_rule_holds()
        self.counter.add_(1)

    def _measure(self, tested: bool) -> tuple[Tensor, Tensor]:
        """Record the metrics of the weights as they are; the logits and the loss's gradient."""
        logits = torch.vmap(self.forward)(self.weights, self.pairs[0])
        loss, gradient = torch.vmap(loss_and_gradient)(logits.detach(), self.answers[0])
        weight_norm = _squared_norms([self.weights[name].detach() for name in self.trained])
        self._record(loss=loss, weight_norm=weight_norm)
        if tested:
            with torch.no_grad():
                held_out = torch.vmap(self.forward)(self.weights, self.pairs[1])
            right = torch.vmap(accuracy)
            self._record(
                accuracy=right(logits.detach(), self.answers[0]),
                test_loss=torch.vmap(loss_and_gradient)(held_out, self.answers[1])[0],
                test_accuracy=right(held_out, self.answers[1]),
            )
        return logits, gradient

    def _end_where_rule_holds(self) -> None:
        """End trainings whose held-out loss was low at each test of ``stop_for`` epochs."""
        config = self.configs[0]
        back = torch.arange(0, config.stop_for + 1, config.test_every, device=self.device)
        tests = (self.counter - back).clamp(min=0)
        low = (self.history["test_loss"].index_select(0, tests) < self.stop_below).all(0)
        ends_now = low & (self.counter >= config.stop_for)
        self.ended.copy_(torch.where(ends_now, self.ended.minimum(self.counter + 1), self.ended))

    def look(self) -> None:
        """See which trainings have ended meanwhile by a rule; waits for the device if one can."""
        if any(config.stop_below is not None for config in self.configs):
            self.ends = self.ended.tolist()

    @torch.no_grad()
    def finished(self, number: int) -> Any:
        """A training's history, once it has ended: the last entry is measured now."""
        with torch.cuda.stream(self.stream):
            self.counter.fill_(self.ends[number])
            kept = {
                name: values[self.ends[number]].clone() for name, values in self.history.items()
            }
            self._measure(tested=True)
            for name, values in self.history.items():
                others = [i for i in range(len(self.configs)) if i != number]
                values[self.ends[number], others] = kept[name][others]
            self.counter.fill_(self.step)
            return super().finished(number)
