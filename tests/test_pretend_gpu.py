"""The stand-in for a GPU keeps CUDA's rules.

Where tests see a real GPU, it must keep the same rules of where tensors lie, what is refused and
how random numbers are drawn. Waits and open sums can't be counted there: what is said of those is
checked on the stand-in alone.
"""

from __future__ import annotations

import copy
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from addlib.device import choose_device, device_name
from pretend_gpu import NAME, pretend_gpu


@pytest.fixture
def tensors(gpu) -> SimpleNamespace:
    """Tensors by where they lie and what they hold."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(3, 4, generator=generator)
    on_cpu = {
        "table": table,
        "index": torch.tensor([0, 2]),
        "mask": torch.tensor([True, False, True]),
        "number": torch.tensor(2.0),
        "place": torch.tensor(1),
    }
    values = {f"cpu_{name}": tensor for name, tensor in on_cpu.items()}
    values |= {f"gpu_{name}": tensor.cuda() for name, tensor in on_cpu.items()}
    if gpu is not None:
        gpu.waits.clear()
    return SimpleNamespace(**values)


# ---------------------------------------------------------------------------- machine
def test_there_is_one_device_as_long_as_it_lasts():
    generator = torch.Generator
    with pretend_gpu():
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 1
        assert device_name(choose_device("auto")) == NAME
        with pytest.raises(ValueError, match="CUDA devices here: 1"):
            choose_device("cuda:1")
    assert torch.Generator is generator
    assert torch.zeros(1).device.type == "cpu"


def test_other_tests_see_no_gpu():
    """Nor do processes that they start."""
    if "ADDLIB_TEST_GPU" in os.environ:
        pytest.skip("these tests are to see one")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert choose_device("auto").type == "cpu"


# ------------------------------------------------------------------ where tensors lie
MADE = {
    "by name": lambda t: torch.zeros(2, device="cuda"),
    "by device": lambda t: torch.arange(2, device=torch.device("cuda:0")),
    "by number": lambda t: torch.zeros(2, device=0),
    "of data": lambda t: torch.tensor([1.0], device="cuda"),
    "as tensor": lambda t: torch.as_tensor([1.0], device="cuda"),
    "of a tensor": lambda t: torch.as_tensor(t.gpu_table),
    "like another": lambda t: torch.zeros_like(t.gpu_table),
    "new": lambda t: t.gpu_table.new_zeros(2),
    "new of data": lambda t: t.gpu_table.new_tensor([1.0]),
    "copied": lambda t: t.cpu_table.to("cuda"),
    "copied to another": lambda t: t.cpu_table.to(t.gpu_table),
    "copied by method": lambda t: t.cpu_table.cuda(),
    "as another's type": lambda t: t.cpu_index.type_as(t.gpu_table),
    "other numbers": lambda t: t.gpu_table.to(torch.float64),
    "computed": lambda t: t.gpu_table @ t.gpu_table.T,
    "row": lambda t: t.gpu_table[1],
    "in place": lambda t: t.gpu_table.mul_(2),
    "detached": lambda t: t.gpu_table.requires_grad_().exp().detach(),
    "data": lambda t: t.gpu_table.requires_grad_().data,
    "part of a result": lambda t: t.gpu_table.max(1).indices,
    "one of several": lambda t: t.gpu_table.split(2)[1],
    "made on the way": lambda t: t.gpu_table.quantile(0.3),
    "classes": lambda t: F.one_hot(t.gpu_index, 3),
    "random": lambda t: torch.rand(2, device="cuda", generator=torch.Generator("cuda")),
    "parameter": lambda t: torch.nn.Parameter(t.gpu_table),
    "layer": lambda t: torch.nn.Linear(2, 2, device="cuda").weight,
    "moved layer": lambda t: torch.nn.Linear(2, 2).to("cuda").weight,
    "deep copy": lambda t: copy.deepcopy(torch.nn.Linear(2, 2).to("cuda")).bias,
    "autocast": lambda t: half(t.gpu_table),
}


def half(table):
    with torch.autocast("cuda", torch.bfloat16):
        product = table @ table.T
    assert product.dtype == torch.bfloat16
    return product


@pytest.mark.parametrize("name", MADE)
def test_what_belongs_on_the_device_lies_there(name, tensors):
    made = MADE[name](tensors)
    assert made.device == torch.device("cuda", 0)
    assert (made.is_cuda, made.is_cpu, made.get_device()) == (True, False, 0)


STAYS = {
    "made": lambda t: torch.zeros(2),
    "asked for": lambda t: torch.zeros_like(t.gpu_table, device="cpu"),
    "fetched": lambda t: t.gpu_table.cpu(),
    "fetched by name": lambda t: t.gpu_table.to("cpu", torch.float64),
    "filled": lambda t: t.cpu_table.copy_(t.gpu_table),
    "row filled": lambda t: t.cpu_table[:1].copy_(t.gpu_table[:1]),
    "counted": lambda t: torch.arange(t.gpu_place),
    "of its number": lambda t: torch.tensor([t.gpu_number]),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_belongs_on_the_cpu_lies_there(name, tensors):
    made = STAYS[name](tensors)
    assert made.device.type == "cpu"
    assert (made.is_cuda, made.is_cpu, made.get_device()) == (False, True, -1)
    made.numpy()


def test_a_copy_does_not_share_memory(tensors):
    tensors.gpu_table.zero_()
    assert tensors.cpu_table.all()
    fetched = tensors.gpu_table.cpu()
    tensors.gpu_table.fill_(1.0)
    assert not fetched.any()


def test_gradients_lie_where_their_tensors_lie(tensors):
    weight = tensors.cpu_table.requires_grad_()
    copied = weight.cuda()
    copied.retain_grad()
    layer = torch.nn.Linear(4, 1, device="cuda")
    fetched = layer(copied).square().cpu()
    seen = []
    copied.register_hook(lambda gradient: seen.append(gradient.device))
    (fetched * torch.ones(3, 1)).sum().backward()
    assert seen == [torch.device("cuda", 0)]
    assert (weight.grad.device.type, copied.grad.device.type) == ("cpu", "cuda")
    assert layer.weight.grad.device == layer.weight.device
    assert torch.equal(weight.grad, copied.grad.cpu())


# -------------------------------------------------------------------- what is refused
MIXED = {
    "product": lambda t: t.gpu_table @ t.cpu_table.T,
    "sum": lambda t: t.gpu_table + t.cpu_table,
    "sum with its number": lambda t: t.cpu_table + t.gpu_number,
    "in place": lambda t: t.cpu_number.add_(t.gpu_number),
    "joined": lambda t: torch.cat([t.gpu_table, t.cpu_table]),
    "stacked numbers": lambda t: torch.stack([t.gpu_number, t.cpu_number]),
    "compared": lambda t: torch.allclose(t.gpu_table, t.cpu_table),
    "gathered": lambda t: t.gpu_table.gather(1, t.cpu_index[None]),
    "looked up": lambda t: F.embedding(t.cpu_index, t.gpu_table),
    "loss": lambda t: F.cross_entropy(t.gpu_table[:2], t.cpu_index),
    "quantiles": lambda t: t.gpu_table.quantile(torch.tensor([0.1, 0.9])),
    "indexed by it": lambda t: t.cpu_table[t.gpu_index],
    "masked by it": lambda t: t.cpu_table[t.gpu_mask],
    "set by it": lambda t: t.cpu_table.index_put_((t.gpu_index,), t.cpu_number),
    "set from the CPU": lambda t: t.gpu_table.index_put_((t.gpu_index,), t.cpu_table[:2]),
    "backward": lambda t: t.gpu_table.requires_grad_().exp().backward(t.cpu_table),
}


@pytest.mark.parametrize("name", MIXED)
def test_tensors_of_two_devices_are_refused(name, tensors):
    with pytest.raises(RuntimeError, match=r"device|indices should be|cpu"):
        MIXED[name](tensors)


ALLOWED = {
    "number": lambda t: t.gpu_table * t.cpu_number,
    "number in place": lambda t: t.gpu_table.clone().mul_(t.cpu_number),
    "choice": lambda t: torch.where(t.gpu_table > 0.5, t.gpu_table, t.cpu_number),
    "index": lambda t: t.gpu_table[t.cpu_index],
    "list": lambda t: t.gpu_table[[0, 2]],
    "mask": lambda t: t.gpu_table[t.cpu_mask],
    "place": lambda t: t.cpu_table[t.gpu_place],
    "number set": lambda t: t.gpu_table.index_put((t.gpu_index,), t.cpu_number),
    "index of what is set": lambda t: t.gpu_table.index_put((t.cpu_index,), t.gpu_number),
    "filled": lambda t: t.gpu_table.clone().copy_(t.cpu_table),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_takes_from_the_cpu_is_taken(name, tensors):
    operation = ALLOWED[name]
    on_cpu = {f"gpu_{key[4:]}": value for key, value in vars(tensors).items() if "cpu" in key}
    expected = operation(SimpleNamespace(**vars(tensors) | on_cpu))
    assert torch.equal(operation(tensors).cpu(), expected)


def test_gradients_go_through_an_index_from_the_cpu(tensors):
    table = tensors.gpu_table.requires_grad_()
    table[tensors.cpu_index].sum().backward()
    assert table.grad.cpu().sum(1).tolist() == [4.0, 0.0, 4.0]


UNKNOWN = {
    "product": (lambda w: w @ w, "addmm_cuda"),
    "product by method": (lambda w: w.mm(w), "addmm_cuda"),
    "product in place": (lambda w: w.addmm_(w, w), "addmm_cuda"),
    "layer": (lambda w: F.linear(w, w), "addmm_cuda"),
    "row": (lambda w: w @ w[0], "addmv_impl_cuda"),
    "rows": (lambda w: w[0] @ w[0], "dot"),
    "batch": (lambda w: w[None].bmm(w[None]), "baddbmm_cuda"),
    "with a sum": (lambda w: torch.baddbmm(w[None], w[None], w[None]), "baddbmm_cuda"),
    "by letters": (lambda w: torch.einsum("ij,jk->ik", w, w), "baddbmm_cuda"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_products_of_whole_numbers_are_refused(name, gpu):
    operation, kernel = UNKNOWN[name]
    numbers = torch.tensor([[1, 2], [3, 4]])
    operation(numbers.clone())
    operation(numbers.double().cuda())
    for dtype, said in ((torch.int64, "Long"), (torch.int32, "Int"), (torch.uint8, "Byte")):
        with pytest.raises(NotImplementedError, match=f"\"{kernel}\" not implemented for '{said}'"):
            operation(numbers.cuda().to(dtype))


def test_elementwise_products_of_whole_numbers_are_taken(tensors):
    index = tensors.gpu_index
    assert (index * index).sum().item() == 4
    assert torch.einsum("i,j->ij", index, index).sum().item() == 4


def test_least_squares_have_one_driver(tensors):
    rows, target = tensors.cpu_table.T, torch.ones(4, 1)
    expected = torch.linalg.lstsq(rows, target, driver="gelsd").solution
    for driver in (None, "gels"):
        found = torch.linalg.lstsq(rows.cuda(), target.cuda(), driver=driver).solution
        assert torch.allclose(found.cpu(), expected, atol=1e-4)
    for driver in ("gelsd", "gelsy", "gelss"):
        with pytest.raises(RuntimeError, match="driver"):
            torch.linalg.lstsq(rows.cuda(), target.cuda(), driver=driver)


def test_histograms_are_refused(tensors):
    for operation in (
        lambda table: torch.histogram(table, 3),
        lambda table: torch.histogram(table, torch.linspace(0, 1, 3).to(table)),
        lambda table: torch.histogramdd(table[:, :2], [2, 2]),
    ):
        operation(tensors.cpu_table)
        with pytest.raises(NotImplementedError, match="'CUDA' backend"):
            operation(tensors.gpu_table)
    assert tensors.gpu_table.histc(3).sum().item() == 12


def test_numpy_sees_no_tensor_of_the_device(tensors):
    for refused in (tensors.gpu_table.numpy, lambda: np.asarray(tensors.gpu_table)):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            refused()
    assert np.array_equal(tensors.gpu_table.cpu().numpy(), np.asarray(tensors.cpu_table))


# --------------------------------------------------------------------- random numbers
def draw(generator, device, count=4):
    return torch.randint(1000, (count,), generator=generator, device=device).cpu()


def test_a_generator_draws_on_its_own_device(gpu):
    assert torch.Generator("cuda").device.type == "cuda"
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        draw(torch.Generator(), "cuda")
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        draw(torch.Generator("cuda"), "cpu")
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.zeros(2, device="cuda").normal_(generator=torch.Generator())
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.randperm(3, generator=torch.Generator("cuda"))


def test_a_seed_gives_other_numbers_than_on_the_cpu(gpu):
    first, again = (draw(torch.Generator("cuda").manual_seed(7), "cuda") for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(torch.Generator().manual_seed(7), "cpu"))
    assert not torch.equal(first, draw(torch.Generator("cuda").manual_seed(8), "cuda"))


def test_the_state_of_a_generator_fits_its_own_kind_alone(gpu):
    generator = torch.Generator("cuda").manual_seed(7)
    draw(generator, "cuda")
    state = generator.get_state()
    assert (state.device.type, state.dtype, len(state)) == ("cpu", torch.uint8, 16)
    expected = draw(generator, "cuda")
    assert not torch.equal(draw(generator, "cuda"), expected)
    generator.set_state(state)
    assert torch.equal(draw(generator, "cuda"), expected)
    with pytest.raises(TypeError, match="must be a torch"):
        generator.set_state(state.cuda())
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        generator.set_state(torch.Generator().get_state())
    with pytest.raises(RuntimeError, match="size"):
        torch.Generator().set_state(state)


# ------------------------------------------------------------------------- host waits
WAITS = {
    "item": lambda t: t.gpu_number.item(),
    "bool": lambda t: bool(t.gpu_number > 1),
    "float": lambda t: float(t.gpu_number),
    "list": lambda t: t.gpu_table.tolist(),
    "text": lambda t: f"{t.gpu_number:.1f}",
    "tensor of its number": lambda t: torch.tensor([t.gpu_number]),
    "row by its number": lambda t: t.cpu_table[t.gpu_place],
    "fetched": lambda t: t.gpu_table.cpu(),
    "sent": lambda t: t.cpu_table.cuda(),
    "sent by name": lambda t: t.cpu_table.to("cuda"),
    "sent data": lambda t: torch.tensor([1.0], device="cuda"),
    "new of data": lambda t: t.gpu_table.new_tensor([0, 5]),
    "filled": lambda t: t.gpu_table.copy_(t.cpu_table),
    "number fills": lambda t: t.cpu_table.fill_(t.gpu_number),
    "fills": lambda t: t.cpu_table.copy_(t.gpu_table),
    "row filled": lambda t: t.gpu_table[:1].copy_(t.cpu_table[:1]),
    "where true": lambda t: t.gpu_mask.nonzero(),
    "mask": lambda t: t.gpu_table[t.gpu_mask],
    "mask of a choice": lambda t: t.gpu_table.masked_select(t.gpu_table > 0.5),
    "mask of what is set": lambda t: t.gpu_table.index_put_((t.gpu_mask,), t.gpu_number),
    "index from the CPU": lambda t: t.gpu_table[t.cpu_index],
    "list of places": lambda t: t.gpu_table[[0, 2]],
    "number by index": lambda t: t.gpu_table.__setitem__(t.gpu_index, 1.0),
    "number by place": lambda t: t.gpu_table.__setitem__((0, 1), 3.0),
    "number of classes": lambda t: F.one_hot(t.gpu_index),
    "kinds": lambda t: t.gpu_index.unique(),
    "counts": lambda t: t.gpu_index.bincount(),
    "repeats": lambda t: t.gpu_index.repeat_interleave(t.gpu_index),
    "equality": lambda t: torch.equal(t.gpu_table, t.gpu_table),
    "closeness": lambda t: torch.allclose(t.gpu_table, t.gpu_table),
    "singular values": lambda t: torch.linalg.svd(t.gpu_table),
    "all work done": lambda t: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_host_wait_is_counted_with_the_line_that_waits(name, counted, tensors):
    WAITS[name](tensors)
    line = WAITS[name].__code__.co_firstlineno
    (said,) = counted.waits
    assert said.endswith(f" at test_pretend_gpu.py:{line}")


def step(t):
    """A step of a training: everything that it takes but data."""
    weight = t.gpu_table.clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight], fused=True)
    with torch.autocast("cuda", torch.bfloat16):
        logits = (t.gpu_table @ weight.T).relu().softmax(-1)
    F.cross_entropy(logits[:2], t.gpu_index).backward()
    torch.nn.utils.get_total_norm([weight.grad])
    optimizer.step()
    optimizer.zero_grad()


NO_WAITS = {
    "step": step,
    "number": lambda t: t.gpu_table * t.cpu_number + 1.0,
    "row": lambda t: t.gpu_table[1:, 2],
    "row of one number": lambda t: t.gpu_table.__setitem__(1, 3.0),
    "classes": lambda t: F.one_hot(t.gpu_index, 3),
    "quantile": lambda t: t.gpu_table.quantile(t.gpu_number / 4),
    "number set by mask": lambda t: t.gpu_table.__setitem__(t.gpu_mask, 0.0),
    "filled by mask": lambda t: t.gpu_table.masked_fill(t.gpu_table > 0.5, 0.0),
    "indexed": lambda t: t.gpu_table[t.gpu_index],
    "set by index": lambda t: t.gpu_table.__setitem__(t.gpu_index, t.gpu_number),
    "made there": lambda t: torch.arange(5, device="cuda"),
    "drawn there": lambda t: torch.rand(3, device="cuda", generator=torch.Generator("cuda")),
    "other numbers": lambda t: t.gpu_table.double().sort(-1).values.max(),
    "as it is": lambda t: t.gpu_table.to("cuda").cuda(),
    "on the CPU": lambda t: t.cpu_table[t.cpu_mask].tolist(),
}


@pytest.mark.parametrize("name", NO_WAITS)
def test_what_needs_no_wait_counts_none(name, counted, tensors):
    NO_WAITS[name](tensors)
    assert not counted.waits


# ----------------------------------------------------------------- sums in open order
def attend(x):
    rows = x[None, None].clone().requires_grad_()
    F.scaled_dot_product_attention(rows, rows, rows, is_causal=True).sum().backward()


def shared(x):
    """One place for three rows."""
    return torch.zeros(3, dtype=torch.int64, device=x.device)


def zeros(x):
    return torch.zeros(3, device=x.device)


OPEN = {
    "gather": lambda x: (
        x.requires_grad_().gather(1, shared(x)[:, None].expand(3, 2)).sum().backward()
    ),
    "index_add": lambda x: torch.zeros_like(x).index_add(0, shared(x), x),
    "index_add_": lambda x: torch.zeros_like(x).index_add_(0, shared(x), x),
    "index_select": lambda x: x.requires_grad_().index_select(0, shared(x)).sum().backward(),
    "index_copy": lambda x: torch.zeros_like(x).index_copy(0, shared(x), x),
    "index_copy_": lambda x: torch.zeros_like(x).index_copy_(0, shared(x), x),
    "index_copy of whole numbers": lambda x: shared(x).index_copy_(0, shared(x), shared(x)),
    "scatter_add_": lambda x: zeros(x).scatter_add_(0, shared(x), x[:, 0]),
    "scatter_": lambda x: zeros(x).scatter_(0, shared(x), x[:, 0]),
    "scatter_reduce sum": lambda x: zeros(x).scatter_reduce(0, shared(x), x[:, 0], "sum"),
    "scatter_reduce mean": lambda x: zeros(x).scatter_reduce(0, shared(x), x[:, 0], "mean"),
    "scatter_reduce_ prod": lambda x: zeros(x).scatter_reduce_(0, shared(x), x[:, 0], "prod"),
    "put_": lambda x: zeros(x).put_(shared(x), x[:, 0], accumulate=True),
    "put": lambda x: zeros(x).put(shared(x), x[:, 0]),
    "take": lambda x: x.requires_grad_().take(shared(x)).sum().backward(),
    "bincount": lambda x: shared(x).bincount(x[:, 0]),
    "cumsum": lambda x: x.cumsum(0),
    "cumsum_": lambda x: x.cumsum_(1),
    "cumsum as floats": lambda x: shared(x).cumsum(0, dtype=torch.float32),
    "cumprod": lambda x: x.cumprod(0),
    "logcumsumexp": lambda x: x.logcumsumexp(0),
    "attention": attend,
}


@pytest.mark.parametrize("name", OPEN)
def test_sums_in_open_order_are_counted_on_the_device_with_their_line(name, counted, tensors):
    OPEN[name](tensors.cpu_table)
    assert not counted.open_sums
    OPEN[name](tensors.gpu_table)
    (said,) = counted.open_sums
    assert " at test_pretend_gpu.py:" in said


def ordered(x):
    """Places of their own for three rows."""
    return torch.arange(3, device=x.device)


IN_ORDER = {
    "gather": lambda x: x.requires_grad_().gather(1, ordered(x)[:, None]).sum().backward(),
    "index": lambda x: x.requires_grad_()[shared(x)].sum().backward(),
    "embedding": lambda x: F.embedding(shared(x), x.requires_grad_()).sum().backward(),
    "index_add_": lambda x: torch.zeros_like(x).index_add_(0, ordered(x), x),
    "index_copy_": lambda x: torch.zeros_like(x).index_copy_(0, ordered(x), x),
    "index_put_": lambda x: zeros(x).index_put_((shared(x),), x[:, 0], accumulate=True),
    "scatter_": lambda x: zeros(x).scatter_(0, ordered(x), x[:, 0]),
    "scatter_ of one number": lambda x: zeros(x).scatter_(0, shared(x), 1.0),
    "scatter_add_ of whole numbers": lambda x: shared(x).scatter_add_(0, shared(x), ordered(x)),
    "scatter_reduce_ amax": lambda x: zeros(x).scatter_reduce_(0, shared(x), x[:, 0], "amax"),
    "put_": lambda x: zeros(x).put_(ordered(x), x[:, 0], accumulate=True),
    "bincount": lambda x: shared(x).bincount(),
    "bincount of its own": lambda x: ordered(x).bincount(x[:, 0]),
    "cumsum of whole numbers": lambda x: ordered(x).cumsum(0),
    "attention without gradient": lambda x: F.scaled_dot_product_attention(*[x[None]] * 3),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_sum_of_one_summand_or_of_whole_numbers_has_no_order(name, counted, tensors):
    """Nor have sums that CUDA sorts first, and the largest number is the same in any order."""
    IN_ORDER[name](tensors.gpu_table)
    assert not counted.open_sums


# ------------------------------------------------------------------------------- graphs
def recording(step):
    """A graph of a step."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def test_nothing_happens_while_a_graph_is_recorded_and_all_of_it_at_a_replay(gpu):
    total = torch.zeros(2, device="cuda")
    given = torch.ones(2, device="cuda")
    graph = recording(lambda: total.add_(given.square() * 3))
    assert total.tolist() == [0, 0]
    graph.replay()
    given.fill_(2)
    graph.replay()
    assert total.tolist() == [15, 15]


def test_a_graph_keeps_the_numbers_that_python_had(gpu):
    """So a step that counts in Python, or looks a rate up there, repeats the first one."""
    total = torch.zeros(1, device="cuda")
    steps = iter([1.0, 10.0, 100.0])
    graph = recording(lambda: total.add_(next(steps)))
    graph.replay()
    graph.replay()
    assert total.item() == 2


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (lambda t: t.sum().item(), "_local_scalar_dense"),
        (lambda t: t[t > 0], "index with a mask"),
        (lambda t: t.add_(torch.ones(3).to("cuda")), "copy by to"),
    ],
    ids=["a number is read", "a size depends on data", "data comes from the host"],
)
def test_a_recording_refuses_what_waits_for_the_host(step, what, gpu):
    values = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match=f"not permitted when stream is capturing .{what}"):
        recording(lambda: step(values))
