"""A trained model as an ONNX graph with switches, so that a browser can run it and take parts of it out.

The graph is the ordinary forward, written plainly from the bridge's own parameters, for any number of layers. In the
last layer it computes the answer positions only, since nothing reads the others. Its inputs, beside the tokens:

===========  ====================  =====================================================================
``heads``    [layers, heads]       False replaces the head's ``z`` at all positions
``positions``  [n_ctx]             False replaces the ``z`` of all heads at this position
``mlps``     [layers]              False replaces ``mlp_out`` at all positions
``stand_in``  a whole number       by what: the mean over the reference set of this number, or zeros
===========  ====================  =====================================================================

With everything True it is the model itself. Outputs are ``logits`` [batch, n_answer, d_vocab] and ``patterns`` [batch,
layers, heads, n_answer, n_ctx], both by answer column, like `addlib.model.answer_logits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from addlib.models.addition import ModelConfig, answer_logits
from addlib.models.bridge import weights
from addlib.models.fast_addition import EPS
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import class_questions, uniform_questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

OPSET, IR_VERSION = 17, 9
"""Version 17 of the operators is the first with LayerNormalization; runtimes of 2023 and later read
both.
"""

STAND_INS = ("mean over sums without carries", "mean over all sums", "zeros")
"""What takes the place of a part that is switched off, in the order of the input ``stand_in``."""

REFERENCE_QUESTIONS, REFERENCE_SEED = 1000, 6
WITHIN, AGREEMENT = 1e-4, 0.999
"""Largest distance of a 32-bit file's logits; least share of answers that are the model's own in
every digit.
"""


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
    with torch.no_grad():
        device = next(model.parameters()).device
        batches = questions.tokens.to(device).split(512)
        expected = torch.cat([answer_logits(model, task, tokens).cpu() for tokens in batches])
    means = mean_activations(model, config, references(task))
    whole = compare(onnx_bytes(model, config, task, means, half=False), 32, questions, expected)
    if not whole.distance <= WITHIN or whole.agreeing < AGREEMENT * whole.questions:
        raise ExportError(
            f"of {whole.questions} questions {whole.agreeing} have the model's answer, the "
            f"farthest logit is "
            f"{whole.distance:.2g} off (at most {WITHIN:g} is allowed): the exported graph is not "
            f"this model"
        )
    small = compare(onnx_bytes(model, config, task, means, half=True), 16, questions, expected)
    return (small if small.agreeing >= AGREEMENT * small.questions else whole), whole


def compare(
    data: bytes, bits: int, questions: Questions, expected: Float[Tensor, "batch n_answer d_vocab"]
) -> Exported:
    """Run a file with everything switched on and compare it with the logits that it should give."""
    runner, agreeing, distance = Runner(data), 0, 0.0
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
        self.shapes = {one.name: one.shape for one in self.session.get_inputs()}

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
    """Mean of ``z`` and ``mlp_out`` of each layer over each set of questions, position by position,
    by hook name.
    """
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(config.n_layers)]
    names += (
        []
        if config.attn_only
        else [f"blocks.{layer}.hook_mlp_out" for layer in range(config.n_layers)]
    )
    device, sums = next(model.parameters()).device, {name: [] for name in names}
    for questions in sets:
        parts = [
            model.run_with_cache(tokens.to(device), names_filter=names)[1]
            for tokens in questions.tokens.split(250)
        ]
        for name in names:
            sums[name].append(sum(part[name].double().sum(0) for part in parts) / len(questions))
    return {name: torch.stack(means).float().cpu() for name, means in sums.items()}


def onnx_bytes(
    model: TransformerBridge,
    config: ModelConfig,
    task: AdditionTask,
    means: dict[str, Tensor],
    half: bool,
) -> bytes:
    """The graph as the bytes of an ONNX file; ``half`` stores weights in 16 bits and widens them
    when it is loaded.
    """
    from onnx import TensorProto, checker, helper

    graph, layers, heads = _Graph(half), range(config.n_layers), config.n_heads
    for name, value in weights(model).items():
        graph.weights[name] = value.detach().cpu().float()
    answers = [
        task.answer_positions[task.answer_columns.index(k)] for k in range(task.n_answer)
    ]  # by column
    resid = graph(
        "Add",
        graph("Gather", graph.weight("embed.weight"), "tokens"),
        graph.weight("pos_embed.weight"),
    )
    patterns = []
    for layer in layers:
        rows = answers if layer == config.n_layers - 1 else list(range(task.n_ctx))
        resid, pattern = graph.attention(
            layer, resid, rows, config, means[f"blocks.{layer}.attn.hook_z"]
        )
        if rows is not answers:
            pattern = graph("Gather", pattern, graph.whole(answers), axis=2)
        patterns.append(graph("Unsqueeze", pattern, graph.whole([1])))
        if not config.attn_only:
            resid = graph.mlp(layer, resid, rows, means[f"blocks.{layer}.hook_mlp_out"])
    graph(
        "MatMul",
        graph.norm("ln_final", resid),
        graph.weight("unembed.weight", turned=True),
        output="logits",
    )
    graph("Concat", *patterns, axis=1, output="patterns")

    def value(name: str, kind: int, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [
        value("tokens", TensorProto.INT64, "batch", task.n_ctx),
        value("heads", TensorProto.BOOL, len(layers), heads),
        value("positions", TensorProto.BOOL, task.n_ctx),
        value("mlps", TensorProto.BOOL, len(layers)),
        value("stand_in", TensorProto.INT64),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, "batch", task.n_answer, task.d_vocab),
        value(
            "patterns", TensorProto.FLOAT, "batch", len(layers), heads, task.n_answer, task.n_ctx
        ),
    ]
    whole = helper.make_model(
        helper.make_graph(graph.nodes, "addition", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="addlib",
    )
    checker.check_model(whole, full_check=True)
    return whole.SerializeToString()


class _Graph:
    """ONNX nodes and constants, one after the other; calling it adds a node and gives the name of
    its output.
    """

    def __init__(self, half: bool) -> None:
        self.half, self.nodes, self.constants = half, [], []
        self.weights: dict[str, Tensor] = {}

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        from onnx import helper

        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Tensor) -> str:
        from onnx import numpy_helper

        name, small = (
            f"constant_{len(self.constants)}",
            self.half and value.is_floating_point() and value.dim() > 1,
        )
        self.constants.append(
            numpy_helper.from_array((value.half() if small else value).contiguous().numpy(), name)
        )
        return self("Cast", name, to=1) if small else name  # 1 is float

    def whole(self, values: list[int] | int) -> str:
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def weight(self, name: str, turned: bool = False) -> str:
        return self.constant(self.weights[name].T if turned else self.weights[name])

    def linear(self, name: str, x: str) -> str:
        return self(
            "Add",
            self("MatMul", x, self.weight(f"{name}.weight", turned=True)),
            self.weight(f"{name}.bias"),
        )

    def norm(self, name: str, x: str) -> str:
        gain, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self("LayerNormalization", x, gain, shift, axis=-1, epsilon=EPS)

    def attention(
        self,
        layer: int,
        resid: str,
        rows: list[int],
        config: ModelConfig,
        means: Float[Tensor, "sets n_ctx heads k"],
    ) -> tuple[str, str]:
        """The residual stream after attention at the positions ``rows``, and the pattern there."""
        block, heads, d_head = f"blocks.{layer}.", config.n_heads, config.d_head
        at_rows = self.whole(rows)
        before = self.norm(f"{block}ln1", resid)
        reading = self("Gather", before, at_rows, axis=1)

        def by_head(name: str, x: str, order: list[int]) -> str:
            split = self(
                "Reshape", self.linear(f"{block}attn.{name}", x), self.whole([0, 0, heads, d_head])
            )
            return self("Transpose", split, perm=order)

        q, k, v = (
            by_head(name, x, order)
            for name, x, order in (
                ("q", reading, [0, 2, 1, 3]),  # (batch, head, query, d_head)
                ("k", before, [0, 2, 3, 1]),  # (batch, head, d_head, key)
                ("v", before, [0, 2, 1, 3]),
            )
        )
        seen = torch.tensor([[key <= row for key in range(means.shape[1])] for row in rows])
        scale = self.constant(torch.tensor(d_head**-0.5))
        scores = self("Mul", self("MatMul", q, k), scale)
        pattern = self(
            "Softmax",
            self("Where", self.constant(seen), scores, self.constant(torch.tensor(-1e9))),
            axis=-1,
        )
        z = self(
            "Transpose", self("MatMul", pattern, v), perm=[0, 2, 1, 3]
        )  # (batch, query, head, d_head)
        head_on = self(
            "Unsqueeze", self("Gather", "heads", self.whole(layer), axis=0), self.whole([0])
        )
        here_on = self("Unsqueeze", self("Gather", "positions", at_rows), self.whole([1]))
        on = self("Unsqueeze", self("And", here_on, head_on), self.whole([2]))  # (query, head, 1)
        z = self("Where", on, z, self.stand_in(means[:, rows]))
        written = self.linear(f"{block}attn.o", self("Reshape", z, self.whole([0, 0, -1])))
        return self("Add", self("Gather", resid, at_rows, axis=1), written), pattern

    def mlp(
        self, layer: int, resid: str, rows: list[int], means: Float[Tensor, "sets n_ctx d_model"]
    ) -> str:
        """The residual stream after the MLP at the positions ``rows``."""
        block = f"blocks.{layer}."
        hidden = self("Relu", self.linear(f"{block}mlp.in", self.norm(f"{block}ln2", resid)))
        on = self("Gather", "mlps", self.whole([layer]), axis=0)
        written = self(
            "Where", on, self.linear(f"{block}mlp.out", hidden), self.stand_in(means[:, rows])
        )
        return self("Add", resid, written)

    def stand_in(self, means: Float[Tensor, "sets ..."]) -> str:
        """What replaces an activation: one of the means, or zeros."""
        return self(
            "Gather",
            self.constant(torch.cat([means, torch.zeros_like(means[:1])])),
            "stand_in",
            axis=0,
        )
