"""A stand-in for one CUDA device on a machine that has none.

Tensors keep real data on the CPU; those that belong on the device carry a mark. Two modes of torch
watch what is done with them: one sees the calls of torch's functions, where devices are named, the
other the operators below them, those of backward passes included. Together they

- make, move and find tensors on ``"cuda"`` as CUDA would,
- refuse what CUDA refuses: operands on two devices, ``.numpy()``, a generator of another device,
  products of whole numbers,
- count *host waits*, at which the program stops until the device is done,
- count sums whose order is open on the device, so that two runs may round them differently, and
  writes of several values to one place, of which any may stay,
- record graphs: what is done meanwhile is undone, and a replay does it again on the same tensors,
  with the numbers that Python had then. What a recording would refuse raises as CUDA does.

Rounding, memory, time and CUDA's own random numbers are not imitated, and other threads than the
one that made it don't see it.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import MethodWrapperType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
NAME = "Pretend GPU"

PROPERTIES = {
    Tensor.device.__get__: GPU,
    Tensor.is_cuda.__get__: True,
    Tensor.is_cpu.__get__: False,
}
"""What a tensor on the device says of itself."""

COPIES = {
    Tensor.to,
    Tensor.cpu,
    Tensor.cuda,
    Tensor.type_as,
    Tensor.new_tensor,
    torch.tensor,
    torch.as_tensor,
    torch.asarray,
}
"""Functions that bring data to the device that they name; the others make it there."""

OF_NUMBERS = {torch.arange, torch.full, torch.linspace}
"""Functions that may take numbers from tensors, whatever device these are on."""

CHECK_ON_CPU = {F.one_hot, Tensor.quantile, torch.quantile}
"""Functions that look whether their arguments are in range, and on a GPU do without."""

WAITS = {
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "_local_scalar_dense",  # item(), bool() and the like
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "linalg_lstsq",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
"""Operators whose result the host must read before it can go on."""

INDEXED = {"_index_put_impl_", "index", "index_put", "index_put_"}
"""Operators that take indices from the CPU; their arguments are target, indices, values."""

SCANS = {"cumprod", "cumsum", "logcumsumexp"}
"""Running sums and products, which CUDA splits into parts as it gets to them."""

FUSED = {"_scaled_dot_product_flash_attention_for_cpu_backward"}
"""Backward passes of fused attention; with dropout or a float mask the CPU has none.

On CUDA they add up atomically.
"""

ALONG_AXIS = {"index_add", "index_copy"}
"""Operators whose arguments are target, axis, index of whole rows, source."""

SCATTERED = {"scatter", "scatter_add", "scatter_reduce"}
"""Operators whose arguments are target, axis, index of single places, source."""

WRITES = {"index_copy", "put", "scatter"}
"""Operators that write: of several values for one place any may stay, whole numbers included."""

IN_ANY_ORDER = SCANS | FUSED | ALONG_AXIS | SCATTERED | WRITES | {"bincount"}
"""Operators that CUDA runs in an order of its own; those in place have a _ at the end."""

PRODUCTS = {
    "addbmm": "addmm_cuda",
    "addmm": "addmm_cuda",
    "addmv": "addmv_impl_cuda",
    "baddbmm": "baddbmm_cuda",
    "bmm": "baddbmm_cuda",
    "dot": "dot",
    "mm": "addmm_cuda",
    "mv": "addmv_impl_cuda",
    "vdot": "dot",
}
"""Products that CUDA has no kernel for in whole numbers, and what its message calls them."""

WHOLE = {
    torch.bool: "Bool",
    torch.uint8: "Byte",
    torch.int8: "Char",
    torch.int16: "Short",
    torch.int32: "Int",
    torch.int64: "Long",
}
"""Types of whole numbers, as messages call them."""

OF_CPU = {
    "_histogramdd_bin_edges",
    "_histogramdd_from_bin_cts",
    "_histogramdd_from_bin_tensors",
    "histogram",
}
"""Operators that CUDA does not have."""

OF_PYTHON = sysconfig.get_path("stdlib")

RealGenerator = torch.Generator


# ------------------------------------------------------------------- where tensors lie
def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is marked as one of the device's."""
    return isinstance(tensor, Tensor) and getattr(_held(tensor), "_on_gpu", False)


def mark(value: Any, is_on_gpu: bool = True) -> Any:
    """The value, with all tensors in it marked."""
    for tensor in tensors_in(value):
        _held(tensor)._on_gpu = is_on_gpu
    return value


def _held(tensor: Tensor) -> Tensor:
    """The tensor itself; of one that a function sees which is mapped over an axis, the whole."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def tensors_in(*values: Any) -> list[Tensor]:
    """The tensors among arguments or results, those in lists included."""
    tensors = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, tuple | list):
            tensors += tensors_in(*value)
        elif isinstance(value, dict):
            tensors += tensors_in(*value.values())
    return tensors


def names_gpu(value: Any) -> bool:
    """Whether an argument is a name of the device: a string, a ``torch.device`` or a number."""
    if isinstance(value, str | torch.device):
        return torch.device(value).type == "cuda"
    return type(value) is int


def mixed(name: str) -> RuntimeError:
    """What CUDA says where devices meet."""
    return RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 "
        f"and cpu! ({name})"
    )


class Move(torch.autograd.Function):
    """A copy on the other device, whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, to_gpu: bool) -> Tensor:
        ctx.from_gpu = on_gpu(tensor)
        return mark(tensor.clone(), to_gpu)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return mark(gradient.clone(), ctx.from_gpu), None


# ---------------------------------------------------------------------- random numbers
class Generator(torch.Generator):
    """A generator; where it is CUDA's, its state is a seed and a count of draws, 16 bytes."""

    def __new__(cls, device: str | torch.device = "cpu") -> torch.Generator:
        if not names_gpu(device):
            return RealGenerator(device)
        return super().__new__(cls, "cpu")

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.state = [0, 0]

    @property
    def device(self) -> torch.device:
        return GPU

    def draw(self) -> None:
        """Get ready for one draw, of other numbers than the CPU draws from this seed."""
        self.state[1] += 1
        super().manual_seed(hash(tuple(self.state)))

    def manual_seed(self, seed: int) -> Generator:
        self.state = [seed, 0]
        return self

    def get_state(self) -> Tensor:
        return torch.tensor(self.state).view(torch.uint8)

    def set_state(self, state: Tensor) -> Generator:
        if on_gpu(state):
            raise TypeError("RNG state must be a torch.ByteTensor")
        if state.numel() != 16:
            raise RuntimeError("RNG state is wrong size")
        self.state = state.view(torch.int64).tolist()
        return self


# ------------------------------------------------------------------------------- modes
class PretendGpu(TorchFunctionMode):
    """Sees calls of torch's functions, and keeps count of what was seen on the device.

    ``waits`` and ``open_sums`` count by "what at file:line", the line being the program's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.open_sums: Counter[str] = Counter()
        self.call: Any = None  # the function that is going on
        self.operands: tuple = ()
        self.recording: Graph | None = None

    def note(self, counter: Counter[str], what: str) -> None:
        """Count something, with the line of the program that it comes from."""
        if self.checks_on_cpu():
            return
        if self.recording is not None and counter is self.waits:
            raise RuntimeError(
                f"CUDA error: operation not permitted when stream is capturing ({what})"
            )
        frame = sys._getframe(1)
        while frame.f_back and _is_not_ours(frame.f_code.co_filename):
            frame = frame.f_back
        file = frame.f_code.co_filename.rpartition("/")[2]
        counter[f"{what} at {file}:{frame.f_lineno}"] += 1

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if isinstance(func, MethodWrapperType):
            return self._property(func, *args)
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and on_gpu(args[0]):
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError(
                    "can't convert cuda:0 device type tensor to numpy: use .cpu() first"
                )
            if func is Tensor.get_device:
                return GPU.index
            if func is Tensor.tolist:
                self.note(self.waits, "tolist")
        elif func in COPIES and any(map(on_gpu, tensors_in(args[:1]))):
            self.note(self.waits, f"{func.__name__} of numbers")
        to_gpu = self._named(func, args, kwargs)
        self._check_generator(to_gpu, args, kwargs)
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.cuda:
            return self._placed("cuda", args[0], True)
        if func is Tensor.to:
            args = (args[0], *(CPU if names_gpu(value) else value for value in args[1:]))
        if names_gpu(kwargs.get("device")):
            kwargs["device"] = CPU
        with self.during(func, *args, *kwargs.values()):
            result = func(*args, **kwargs)
        if func in COPIES:
            return self._placed(func.__name__, result, to_gpu)
        return result if to_gpu is None else mark(result, to_gpu)

    @staticmethod
    def _property(func: Any, tensor: Tensor, *value: Any) -> Any:
        """What a tensor's property is, or what setting it does."""
        if func in PROPERTIES and on_gpu(tensor):
            return PROPERTIES[func]
        if func == Tensor.data.__set__:
            mark(tensor, on_gpu(*value))
        return func(tensor, *value)

    @contextmanager
    def during(self, call: Any, *operands: Any) -> Iterator[None]:
        """While a function runs."""
        before = (self.call, self.operands)
        self.call = call
        self.operands = operands
        try:
            yield
        finally:
            self.call, self.operands = before

    def makes_on_gpu(self) -> bool:
        """Whether the call that is going on makes its tensors on the device, by its operands."""
        return self.call not in OF_NUMBERS and any(map(on_gpu, tensors_in(self.operands)))

    def checks_on_cpu(self) -> bool:
        """Whether the call that is going on looks at its arguments, and would not on a GPU."""
        # A number of classes that is not given is read there, too.
        return self.call in CHECK_ON_CPU and len(self.operands) > 1

    @staticmethod
    def _named(func: Any, args: tuple, kwargs: dict[str, Any]) -> bool | None:
        """Whether a call wants its result on the device; None: it does not say."""
        if func in (Tensor.cpu, Tensor.cuda):
            return func is Tensor.cuda
        named = [kwargs.get("device")]
        if func in (Tensor.to, Tensor.type_as):
            named += [*args[1:], kwargs.get("other")]
        for value in named:
            if isinstance(value, Tensor):
                return on_gpu(value)
            if isinstance(value, str | torch.device) or names_gpu(value):
                return names_gpu(value)
        return on_gpu(args[0]) if func is Tensor.new_tensor else None

    @staticmethod
    def _check_generator(to_gpu: bool | None, args: tuple, kwargs: dict[str, Any]) -> None:
        generator = kwargs.get("generator")
        if generator is None:
            return
        wanted = any(map(on_gpu, tensors_in(args))) if to_gpu is None else to_gpu
        if (generator.device.type == "cuda") != wanted:
            raise RuntimeError(
                f"Expected a '{'cuda' if wanted else 'cpu'}' device type for generator but found "
                f"'{generator.device.type}'"
            )
        if wanted:
            generator.draw()

    def _placed(self, name: str, tensor: Tensor, to_gpu: bool | None) -> Tensor:
        """The tensor, copied to the other device if it must be."""
        if to_gpu is None or on_gpu(tensor) == to_gpu:
            return tensor
        self.note(self.waits, f"copy by {name}")
        return Move.apply(tensor, to_gpu)


class Operators(TorchDispatchMode):
    """Sees operators: refuses operands on two devices, marks results, counts what is to count."""

    def __init__(self, gpu: PretendGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = tensors_in(args, kwargs)
        name = func.overloadpacket.__name__
        is_on_gpu = any(map(on_gpu, operands)) if operands else self.gpu.makes_on_gpu()
        if is_on_gpu and operands:
            _refuse(func, name, operands[0], kwargs)
            self._check(func, name, args, kwargs, operands)
        recording = self.gpu.recording
        if recording is not None:
            recording.save(operands)
        result = func(*args, **kwargs)
        if recording is not None:
            recording.add(func, args, kwargs, result)
        is_operand = bool(args) and result is args[0]
        return mark(result) if is_on_gpu and not is_operand else result

    def _check(
        self, func: Any, name: str, args: tuple, kwargs: dict[str, Any], operands: list[Tensor]
    ) -> None:
        if name in WAITS:
            self.gpu.note(self.gpu.waits, name)
        if name in INDEXED:
            self._check_index(name, *args[:3])
        elif not all(map(on_gpu, operands)):
            if name == "copy_" or (name == "fill_" and not on_gpu(args[0])):
                self.gpu.note(self.gpu.waits, name)
            elif name != "fill_" and not self._takes_numbers(func, args, operands):
                raise mixed(name)
        if _is_open(name, args, kwargs):
            self.gpu.note(self.gpu.open_sums, name)

    @staticmethod
    def _takes_numbers(func: Any, args: tuple, operands: list[Tensor]) -> bool:
        """Elementwise operators take single numbers from the CPU, but write nothing there."""
        if func._schema.is_mutable and not on_gpu(args[0]):
            return False
        is_elementwise = torch.Tag.pointwise in func.tags
        return is_elementwise and all(on_gpu(tensor) or tensor.dim() == 0 for tensor in operands)

    def _check_index(
        self, name: str, tensor: Tensor, indices: list[Tensor | None], values: Tensor | None = None
    ) -> None:
        """Indices may come from the CPU, and so may a single number; neither may go there."""
        given = [index for index in indices if index is not None]
        are_masks = [index.dtype == torch.bool for index in given]
        if not on_gpu(tensor):
            raise mixed(name)
        if not all(map(on_gpu, given)):
            self.gpu.note(self.gpu.waits, f"{name} with indices from the CPU")
        if values is not None and not on_gpu(values):
            if values.dim():
                raise mixed(name)
            if not all(are_masks):  # where all are, the number is filled in on the device
                self.gpu.note(self.gpu.waits, f"{name} of a number from the CPU")
        elif any(are_masks):
            self.gpu.note(self.gpu.waits, f"{name} with a mask")


class Graph:
    """Stands for a CUDA graph: the operators of a recording, their arguments and their results."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, tuple, dict[str, Any], Any]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.own: set[int] = set()

    def save(self, operands: list[Tensor]) -> None:
        """Remember what memory held before the recording first touched it."""
        with torch._C.DisableTorchFunction():
            for tensor in operands:
                memory = tensor.untyped_storage()
                if memory.data_ptr() not in self.before and memory.data_ptr() not in self.own:
                    self.before[memory.data_ptr()] = (memory, memory.clone())

    def add(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        """Record an operator. Results are kept, so that their memory is not given away again."""
        self.done.append((func, args, kwargs, result))
        with torch._C.DisableTorchFunction():
            memory = {tensor.untyped_storage().data_ptr() for tensor in tensors_in(result)}
        self.own |= memory - self.before.keys()

    def undo(self) -> None:
        """Nothing runs while a graph is recorded."""
        for memory, value in self.before.values():
            memory.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        """Do it all again; results go where they were."""
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            for func, args, kwargs, result in self.done:
                again = func(*args, **kwargs)
                for old, new in zip(tensors_in(result), tensors_in(again), strict=True):
                    if old.shape != new.shape:
                        raise RuntimeError(f"{func}: {new.shape} does not fit {old.shape}")
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class Stream:
    """Stands for a stream, or an event in one: everything is done at once."""

    def wait_stream(self, other: Stream) -> None:
        """Nothing to wait for."""

    def record(self) -> None:
        """Nothing is left to be done."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


def _refuse(func: Any, name: str, operand: Tensor, kwargs: dict[str, Any]) -> None:
    """Raise CUDA's error where it lacks an operator, or has it for other arguments alone."""
    kernel = PRODUCTS.get(name.removesuffix("_"))
    if kernel and operand.dtype in WHOLE:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{WHOLE[operand.dtype]}'")
    if name in OF_CPU:
        raise NotImplementedError(
            f"Could not run '{func.name()}' with arguments from the 'CUDA' backend."
        )
    if name == "linalg_lstsq" and kwargs.get("driver") not in (None, "gels"):
        raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be one of (gels)")


def _is_not_ours(file: str) -> bool:
    """Whether a file of code is a library's, Python's or this one."""
    return "site-packages" in file or file.startswith(OF_PYTHON) or file == __file__


def _is_open(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether CUDA takes numbers in an order of its own, and the result may depend on it.

    Sums of whole numbers never round.
    """
    name = name.removesuffix("_")
    if name not in IN_ANY_ORDER:
        return False
    if name == "bincount":
        return len(tensors_in(args)) == 2 and _repeats(args[0])  # numbers and weights
    rounds = (kwargs.get("dtype") or args[0].dtype).is_floating_point
    if not rounds and name not in WRITES:
        return False
    if name in SCANS | FUSED:
        return True
    if name == "put":
        return _repeats(args[1])
    if args[4:5] in (("amax",), ("amin",)):
        return False
    if name in ALONG_AXIS:
        return _repeats(args[2])
    if not isinstance(args[3], Tensor):
        return False
    count = torch.zeros(args[0].shape, dtype=torch.int64)
    return bool((count.scatter_add_(args[1], args[2], torch.ones_like(args[2])) > 1).any())


def _repeats(index: Tensor) -> bool:
    """Whether a place occurs more than once."""
    return len(index.unique()) < index.numel()


# ----------------------------------------------------------------------------- machine
@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """A machine with one CUDA device, as long as the context lasts."""
    gpu = PretendGpu()
    answers = {
        "current_device": 0,
        "device_count": 1,
        "empty_cache": None,
        "get_device_name": NAME,
        "get_rng_state": None,
        "is_available": True,
        "is_bf16_supported": True,
        "manual_seed_all": None,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "set_rng_state": None,
    }
    run_backward = torch.autograd._engine_run_backward
    new_parameter = torch.nn.Parameter.__new__
    new_autocast = torch.autocast.__init__
    optimizers = sys.modules["torch.optim.optimizer"]  # torch.optim hides it
    grouped = optimizers._group_tensors_by_device_and_dtype

    def backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        with gpu, gpu.during(run_backward, outputs):  # hooks run in there
            return run_backward(outputs, *args, **kwargs)

    def parameter(cls: type, data: Tensor | None = None, requires_grad: bool = True) -> Tensor:
        made = new_parameter(cls, data, requires_grad)
        return made if data is None else mark(made, on_gpu(data))

    def autocast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        new_autocast(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    def by_device(lists: list[list[Tensor]], *args: Any) -> dict:
        """Optimisers group tensors by where they lie, and bring learning rates there."""
        groups = grouped(lists, *args)
        return {
            (GPU if on_gpu(group[0][0][0]) else device, dtype): group
            for (device, dtype), group in groups.items()
        }

    def synchronize(*_: Any, **__: Any) -> None:
        gpu.note(gpu.waits, "synchronize")

    @contextmanager
    def record(graph: Graph, **_: Any) -> Iterator[None]:
        gpu.recording = graph
        try:
            yield
        finally:
            gpu.recording = None
            graph.undo()

    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(
                mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer)
            )
        for place, name, new in (
            (torch, "Generator", Generator),
            (torch.autocast, "__init__", autocast),
            (torch.autograd, "_engine_run_backward", backward),
            (torch.cuda, "synchronize", synchronize),
            (optimizers, "_group_tensors_by_device_and_dtype", by_device),
            (torch.cuda, "CUDAGraph", Graph),
            (torch.cuda, "graph", record),
            (torch.cuda, "Stream", Stream),
            (torch.cuda, "Event", Stream),
            (torch.cuda, "current_stream", Stream),
            (torch.cuda, "stream", nullcontext),
            (torch.backends.cuda, "is_built", lambda: False),
            (torch.nn.Parameter, "__new__", staticmethod(parameter)),
        ):
            stack.enter_context(mock.patch.object(place, name, new))
        stack.enter_context(Operators(gpu))
        stack.enter_context(gpu)
        yield gpu
