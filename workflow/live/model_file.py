"""A trained model as an ONNX file with switches: a browser can run it and take parts of it out.

The graph is the ordinary forward, for any number of layers. In the last layer it computes the
answer positions only, since nothing reads the others. Its inputs, beside the tokens:

=============  ================  ==================================================================
``heads``      [layers, heads]   False replaces the head's ``z`` at all positions
``positions``  [n_ctx]           False replaces the ``z`` of all heads at this position
``mlps``       [layers]          False replaces ``mlp_out`` at all positions
``stand_in``   a whole number    by what: the mean over the reference set of this number, or zeros
=============  ================  ==================================================================

With everything True it is the model itself. Outputs are ``logits`` [batch, n_answer, d_vocab] and
``patterns`` [batch, layers, heads, n_answer, n_ctx], both by answer column, like
`addlib.models.addition.answer_logits`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from addlib.device import pin_float32
from addlib.models.addition import ModelConfig, answer_logits
from addlib.models.bridge import weights
from addlib.models.fast_addition import EPS
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import class_questions, uniform_questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STAND_INS = ("mean over sums without carries", "mean over all sums", "zeros")
"""What takes the place of a part that is switched off, in the order of the input ``stand_in``."""

REFERENCE_QUESTIONS = 1000

REFERENCE_SEED = 6

WITHIN = 1e-4
"""Largest distance of a 32-bit file's logits from the model's."""

AGREEMENT = 0.999
"""Least share of answers that are the model's own in every digit."""


class ExportError(Exception):
    """The exported file does not compute what the model computes; nothing of it may be used."""


def references(task: AdditionTask, count: int = REFERENCE_QUESTIONS) -> list[Questions]:
    """The questions behind the two means of `STAND_INS`, always the same: of class BA, and uniform."""
    generator = torch.Generator().manual_seed(REFERENCE_SEED)
    return [
        class_questions(task, "BA", count, generator),
        uniform_questions(task, count, generator),
    ]


@dataclass(frozen=True)
class Exported:
    """A checked ONNX file, and by how much it differs from the model."""

    data: bytes
    bits: int  # of a stored weight; the arithmetic is in 32 bits either way
    questions: int  # how many were compared
    agreeing: int  # how many of them have the same answer in every digit
    distance: float  # largest of a logit


def export(
    model: TransformerBridge, config: ModelConfig, task: AdditionTask, questions: Questions
) -> tuple[Exported, Exported]:
    """The model as an ONNX file, compared with the TransformerLens model on ``questions``.

    Returns:
        The file to use, and the one with weights of 32 bits. They are the same unless 16 bits
        change at most one answer in a thousand.

    Raises:
        ExportError: the 32-bit file's logits are more than 1e-4 off somewhere. Where they are not,
            an answer can only differ where the model's two likeliest digits are closer together
            than twice that.
    """
    pin_float32()  # the comparison allows for no more than rounding
    with torch.no_grad():
        device = next(model.parameters()).device
        batches = questions.tokens.to(device).split(512)
        expected = torch.cat([answer_logits(model, task, tokens).cpu() for tokens in batches])
    data = onnx_bytes(model, config, task, mean_activations(model, config, references(task)))
    whole = compare(data, 32, questions, expected)
    if not whole.distance <= WITHIN or whole.agreeing < AGREEMENT * whole.questions:
        raise ExportError(
            f"of {whole.questions} questions {whole.agreeing} have the model's answer, the "
            f"farthest logit is {whole.distance:.2g} off (at most {WITHIN:g} is allowed): the "
            "exported graph is not this model"
        )
    small = compare(halved(data), 16, questions, expected)
    return (small if small.agreeing >= AGREEMENT * small.questions else whole), whole


def compare(
    data: bytes, bits: int, questions: Questions, expected: Float[Tensor, "batch n_answer d_vocab"]
) -> Exported:
    """Run a file with everything switched on and compare it with the logits that it should give."""
    runner = Runner(data)
    agreeing = 0
    distance = 0.0
    for index in torch.arange(len(questions)).split(256):
        logits = runner(questions[index])[0]
        agreeing += int((logits.argmax(-1) == expected[index].argmax(-1)).all(1).sum())
        distance = max(
            distance, float((logits - expected[index]).abs().nan_to_num(torch.inf).max())
        )
    return Exported(data, bits, len(questions), agreeing, distance)


class Runner:
    """Runs an exported file with onnxruntime, on one thread; switches are on unless given.

    Args:
        data: the file.
    """

    def __init__(self, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self.shapes = {node.name: node.shape for node in self.session.get_inputs()}

    def __call__(
        self,
        questions: Questions,
        heads: Bool[Tensor, "layers heads"] | None = None,
        positions: Bool[Tensor, " n_ctx"] | None = None,
        mlps: Bool[Tensor, " layers"] | None = None,
        stand_in: int = 0,
    ) -> tuple[
        Float[Tensor, "batch n_answer d_vocab"], Float[Tensor, "batch layers heads n_answer n_ctx"]
    ]:
        """Logits and patterns, by answer column."""
        given = {"heads": heads, "positions": positions, "mlps": mlps}
        inputs = {
            name: np.ones(self.shapes[name], bool) if value is None else value.numpy()
            for name, value in given.items()
        }
        inputs |= {"tokens": questions.tokens.numpy(), "stand_in": np.array(stand_in)}
        logits, patterns = self.session.run(["logits", "patterns"], inputs)
        return torch.from_numpy(logits), torch.from_numpy(patterns)


@torch.no_grad()
def mean_activations(
    model: TransformerBridge, config: ModelConfig, sets: list[Questions]
) -> dict[str, Float[Tensor, "sets n_ctx ..."]]:
    """Mean ``z`` and ``mlp_out`` over each set of questions, position by position, by hook name."""
    hooks = ["attn.hook_z"] if config.attn_only else ["attn.hook_z", "hook_mlp_out"]
    names = [f"blocks.{layer}.{hook}" for layer in range(config.n_layers) for hook in hooks]
    device = next(model.parameters()).device
    sums: dict[str, list[Tensor]] = {name: [] for name in names}
    for questions in sets:
        parts = [
            model.run_with_cache(tokens.to(device), names_filter=names)[1]
            for tokens in questions.tokens.split(250)
        ]
        for name in names:
            total = sum((part[name].double().sum(0) for part in parts), start=torch.zeros(()))
            sums[name].append(total / len(questions))
    return {name: torch.stack(means).float().cpu() for name, means in sums.items()}


class SwitchedModel(nn.Module):
    """The model's forward with a switch for each part; the last layer only at answer positions.

    Args:
        model: the trained model.
        config, task: what it was built from.
        means: of `mean_activations`.
    """

    def __init__(
        self,
        model: TransformerBridge,
        config: ModelConfig,
        task: AdditionTask,
        means: dict[str, Tensor],
    ) -> None:
        super().__init__()
        self.config = config
        self.n_ctx = task.n_ctx
        self.answer_rows = task.by_column(torch.tensor(task.answer_positions)[None])[0].tolist()
        for name, value in weights(model).items():
            self.register_buffer(name.replace(".", "/"), value.detach().cpu().float())
        for name, mean in means.items():  # the last of an activation's stand-ins is zeros
            table = torch.cat([mean, torch.zeros_like(mean[:1])])
            self.register_buffer(name.replace(".", "/"), table)

    def value(self, name: str) -> Tensor:
        """A weight by its name, or by a hook's name what may stand in for the activation there."""
        return self.get_buffer(name.replace(".", "/"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.value(f"{name}.weight"), self.value(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        width = [self.config.d_model]
        return F.layer_norm(x, width, self.value(f"{name}.weight"), self.value(f"{name}.bias"), EPS)

    def by_head(self, name: str, x: Float[Tensor, "batch pos d_model"]) -> Tensor:
        """A projection, (batch, head, pos, d_head)."""
        sizes = (self.config.n_heads, self.config.d_head)
        return self.linear(name, x).unflatten(-1, sizes).transpose(1, 2)

    def forward(
        self,
        tokens: Int[Tensor, "batch n_ctx"],
        heads: Bool[Tensor, "layers heads"],
        positions: Bool[Tensor, " n_ctx"],
        mlps: Bool[Tensor, " layers"],
        stand_in: Int[Tensor, ""],
    ) -> tuple[
        Float[Tensor, "batch n_answer d_vocab"], Float[Tensor, "batch layers heads n_answer n_ctx"]
    ]:
        """Logits and patterns, by answer column."""
        resid = F.embedding(tokens, self.value("embed.weight")) + self.value("pos_embed.weight")
        every_row = list(range(self.n_ctx))
        patterns = []
        for layer in range(self.config.n_layers):
            last = layer == self.config.n_layers - 1
            rows = self.answer_rows if last else every_row
            block = f"blocks.{layer}"

            def instead(hook: str, rows: list[int] = rows, block: str = block) -> Tensor:
                table = self.value(f"{block}.{hook}")
                return table.index_select(0, stand_in.reshape(1))[0][rows]

            x = self.norm(f"{block}.ln1", resid)
            q = self.by_head(f"{block}.attn.q", x[:, rows])
            k = self.by_head(f"{block}.attn.k", x)
            v = self.by_head(f"{block}.attn.v", x)
            later = torch.tensor(every_row) > torch.tensor(rows)[:, None]
            scores = q @ k.transpose(-1, -2) * self.config.d_head**-0.5
            pattern = scores.masked_fill(later, -1e9).softmax(-1)
            z = (pattern @ v).transpose(1, 2)  # (batch, pos, head, d_head)
            on = positions[rows][:, None] & heads[layer]
            z = torch.where(on[:, :, None], z, instead("attn.hook_z"))
            resid = resid[:, rows] + self.linear(f"{block}.attn.o", z.flatten(-2))
            patterns.append(pattern if last else pattern[:, :, self.answer_rows])
            if not self.config.attn_only:
                hidden = self.linear(f"{block}.mlp.in", self.norm(f"{block}.ln2", resid)).relu()
                out = self.linear(f"{block}.mlp.out", hidden)
                resid = resid + torch.where(mlps[layer], out, instead("hook_mlp_out"))
        logits = F.linear(self.norm("ln_final", resid), self.value("unembed.weight"))
        return logits, torch.stack(patterns, 1)


def onnx_bytes(
    model: TransformerBridge, config: ModelConfig, task: AdditionTask, means: dict[str, Tensor]
) -> bytes:
    """The model with its switches as the bytes of an ONNX file; ``means`` as for `SwitchedModel`."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    inputs = {
        "tokens": torch.zeros(2, task.n_ctx, dtype=torch.int64),
        "heads": torch.ones(config.n_layers, config.n_heads, dtype=torch.bool),
        "positions": torch.ones(task.n_ctx, dtype=torch.bool),
        "mlps": torch.ones(config.n_layers, dtype=torch.bool),
        "stand_in": torch.tensor(0),
    }
    program = torch.onnx.export(
        SwitchedModel(model, config, task, means).eval(),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["logits", "patterns"],
        dynamic_shapes=dict.fromkeys(inputs) | {"tokens": {0: "batch"}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # it is for the older exporter, which writes a file
    whole = program.model_proto
    del whole.graph.value_info[:]
    for node in whole.graph.node:  # where in this file each one comes from
        node.ClearField("metadata_props")
    return whole.SerializeToString()


def halved(data: bytes) -> bytes:
    """The file with its matrices stored in 16 bits, and widened to 32 where they are used."""
    from onnx import TensorProto, helper, load_model_from_string, numpy_helper

    whole = load_model_from_string(data)
    widened = []
    for stored in whole.graph.initializer:
        value = numpy_helper.to_array(stored)
        if value.dtype == np.float32 and value.ndim > 1:
            name = stored.name
            half = f"{name}/half"
            stored.CopyFrom(numpy_helper.from_array(value.astype(np.float16), half))
            widened.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*widened, *whole.graph.node]
    del whole.graph.node[:]
    whole.graph.node.extend(nodes)
    return whole.SerializeToString()
