"""The stand-in for a GPU keeps CUDA's rules.

Where tests see a GPU, the same rules are tried on CUDA itself, but for host waits and open sums,
which only the stand-in counts.
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


WITHOUT_CODE = {
    "product of whole numbers": lambda t: t.gpu_index[None] @ t.gpu_index[:, None],
    "dot product of whole numbers": lambda t: t.gpu_index @ t.gpu_index,
    "batched, of whole numbers": lambda t: torch.einsum(
        "bij,bjk->bik", t.gpu_index.expand(2, 2, 2), t.gpu_index.expand(2, 2, 2)
    ),
    "another solver": lambda t: torch.linalg.lstsq(t.gpu_table, t.gpu_table, driver="gelsd"),
    "histogram": lambda t: torch.histogram(t.gpu_table, 3),
}


@pytest.mark.parametrize("name", WITHOUT_CODE)
def test_what_cuda_has_no_code_for_is_refused(name, tensors):
    with pytest.raises(RuntimeError, match=r"not implemented|should be one of|Could not run"):
        WITHOUT_CODE[name](tensors)


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
@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_places_that_get_several_summands_are_counted_on_the_device(place, counted, tensors):
    table = getattr(tensors, f"{place}_table").requires_grad_()
    ones = torch.ones(3, 2, dtype=torch.int64, device=table.device)
    table.gather(1, ones).sum().backward()
    torch.zeros_like(table).index_add_(0, ones[:, 0], table)
    names = [said.partition(" at ")[0] for said in counted.open_sums]
    assert names == (["scatter_add", "index_add_"] if place == "gpu" else [])


def test_a_sum_of_one_summand_or_of_whole_numbers_has_no_order(counted, tensors):
    table = tensors.gpu_table.requires_grad_()
    columns = torch.arange(3, device="cuda")[:, None]
    table.gather(1, columns).sum().backward()
    torch.zeros(3, device="cuda").index_add_(0, columns[:, 0], table[:, 0])
    torch.zeros(1, dtype=torch.int64, device="cuda").scatter_add_(
        0, 0 * columns[:, 0], columns[:, 0]
    )
    assert not counted.open_sums


@pytest.mark.parametrize(
    "adds",
    [
        lambda table: table.cumsum(0),
        lambda table: torch.zeros(4, device="cuda").scatter_reduce(
            0, torch.zeros(4, dtype=torch.int64, device="cuda"), table[0], "sum"
        ),
        lambda table: torch.bincount(
            torch.zeros(4, dtype=torch.int64, device="cuda"), weights=table[0]
        ),
    ],
    ids=["running sum", "reduced", "counted by weight"],
)
def test_other_sums_without_an_order_are_counted_too(adds, counted, tensors):
    adds(tensors.gpu_table)
    assert counted.open_sums


def test_waiting_for_the_device_is_a_wait(counted):
    torch.cuda.synchronize()
    assert counted.waits
