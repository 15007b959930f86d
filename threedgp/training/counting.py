"""Memory and work of a training step, counted without computing it.

The trainer itself takes steps with tensors on PyTorch's meta device, which have sizes and no data. Every allocation and
every operator is counted, so that the numbers follow the code. A step takes seconds, whatever its size.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from threedgp.config import Config
from threedgp.data.loader import Batch
from threedgp.models.initialization import initial_networks
from threedgp.render.backends import assume
from threedgp.runtime.precision import restored_precision
from threedgp.training.step import Trainer

META = torch.device("meta")
TEXELS = 12
"""Texels that a sample of the field reads: four of each of three planes."""
FREE = ("empty", "empty_strided", "empty_like", "new_empty", "detach", "new_empty_strided")
"""Operators that do no work."""


class Operation(NamedTuple):
    """An operator as it was called."""

    precision: Literal["fp32", "tf32", "bf16"]
    flops: int
    """Floating-point operations of convolutions and matrix products; 0 for all other operators."""
    traffic: int
    """Bytes of its arguments and results."""


class StepCount(NamedTuple):
    """Memory and operators of a training step on one device."""

    state_bytes: int
    """Weights, their averages, moments of Adam and gradients, which stay in memory between two steps."""
    peak_bytes: int
    """Most bytes of tensors at once, in the first two steps; the first one has the gradient penalty."""
    first_step: list[Operation]
    """Operators of the first step, with the gradient penalty of every `train.r1_interval`-th one, noise and blur."""
    usual_step: list[Operation]
    """Operators of a step halfway through the run, without that penalty."""


class _Counter(TorchDispatchMode):
    """Counts the operators of its body, and the bytes of tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.operations: list[Operation] = []
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results, arguments = _tensors(out), _tensors((args, kwargs))
        fresh = [tensor for tensor in results if self._allocate(tensor)]
        if (fresh or func._schema.is_mutable) and func._schema.name.split("::")[1] not in FREE:
            self.operations.append(_operation(func, args, kwargs, out, [*arguments, *results]))
        return out

    def _allocate(self, tensor: Tensor) -> bool:
        """Count the storage of `tensor` if it is new."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return False
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)
        return True

    def _release(self, size: int) -> None:
        self.live -= size


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _operation(func: Any, args: Any, kwargs: Any, out: Any, tensors: list[Tensor]) -> Operation:
    packet = func._overloadpacket
    traffic = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    dtype = tensors[0].dtype if tensors else torch.float32
    is_convolution = "convolution" in func._schema.name
    tf32 = torch.backends.cudnn.allow_tf32 if is_convolution else torch.backends.cuda.matmul.allow_tf32
    precision = "bf16" if dtype is torch.bfloat16 else "tf32" if tf32 else "fp32"
    if func._schema.name in ("threedgp::field", "threedgp::field_backward"):
        planes, hidden, is_forward = args[0][0], args[0][2].shape[0], func._schema.name == "threedgp::field"
        evaluated = (out[0], out[2]) if is_forward else args[2]  # [B, R, S, 4] of both passes, or their gradients
        samples = sum(values.numel() for values in evaluated) // 4
        times = 1 if is_forward else 3  # the field again, and both gradients
        channels = planes.shape[-1]
        flops = times * 2 * samples * hidden * (channels + 4)
        return Operation(precision, flops, traffic + times * samples * TEXELS * channels * planes.element_size())
    flops = flop_registry[packet](*args, **kwargs, out_val=out) if packet in flop_registry else 0
    return Operation(precision, flops, traffic)


def count_step(config: Config, backend: str = "triton", num_classes: int = 1, num_features: int = 2048) -> StepCount:
    """Count a training step of one process of `machine.processes`.

    Args:
        config: settings; only the batch of one process is counted.
        backend: code of the renderer, as `render.Backend`: `triton` on GPUs, `native` on CPUs, `torch` where these do
            not run.
        num_classes, num_features: of the data.

    Raises:
        UserError: the batch cannot be divided among the processes.
    """
    config = of_one_process(config)
    config = config.model_copy(update={"train": config.train.model_copy(update={"compile": False})})
    with restored_precision(), assume(backend), _Counter() as counter:
        trainer = meta_trainer(config, num_classes, num_features)
        steps = []
        for images in (0, middle_of_run(config) + config.train.batch_size):
            trainer.images = images
            counter.operations.clear()
            trainer.step(noise_batch(config, num_features, META))
            steps.append(list(counter.operations))
        state, peak = counter.live, counter.peak
    return StepCount(state, peak, steps[0], steps[1])


def meta_trainer(config: Config, num_classes: int, num_features: int) -> Trainer:
    """A trainer whose tensors have no data."""
    fov_quantiles = [config.camera.fov] * (1 + num_classes)
    with META:
        networks = initial_networks(config, num_classes, [1 / num_classes] * num_classes, num_features, fov_quantiles)
    return Trainer(config, networks, META)


def of_one_process(config: Config) -> Config:
    """Settings with which one process does its share of the work of `machine.processes`."""
    train = config.train.model_copy(update={"batch_size": config.train.batch_size // config.machine.processes})
    machine = config.machine.model_copy(update={"processes": 1})
    return config.model_copy(update={"train": train, "machine": machine})


def middle_of_run(config: Config) -> int:
    """Images shown before a step with gradient penalty, halfway through the run."""
    period = config.train.r1_interval * config.train.batch_size
    return int(config.train.kimg * 500) // period * period


def noise_batch(config: Config, num_features: int, device: torch.device) -> Batch:
    """A batch of noise of the sizes that training has."""
    count, size = config.train.batch_size, config.dataset.resolution
    with device:
        return Batch(
            image=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8),
            depth=torch.randint(-(2**15), 2**15, (count, 1, size, size), dtype=torch.int16),
            embedding=torch.randn(count, num_features),
            label=torch.zeros(count, dtype=torch.int64),
            index=torch.arange(count),
        )
