"""What PyTorch computes with a policy, as arrays in an ONNX file: outputs, gradients, a training run."""

import copy
from pathlib import Path

import numpy as np
import torch
from onnx import helper, numpy_helper
from torch import nn

from policies import Policy

BATCH = 4
SAMPLES = 64
STEPS = 200
LEARNING_RATE = 1e-3


def tuple_of(outputs) -> tuple:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def loss_of(outputs, targets) -> torch.Tensor:
    """The sum over the outputs of their mean squared errors."""
    pairs = zip(tuple_of(outputs), targets, strict=True)
    return sum(((output - target) ** 2).mean() for output, target in pairs)


def random_targets(module: nn.Module, inputs, generator) -> list[torch.Tensor]:
    """Near enough to be learned, and not met."""
    with torch.no_grad():
        outputs = tuple_of(module(*inputs))
    return [o + 0.5 * torch.randn(o.shape, generator=generator) for o in outputs]


def in_double(tensors) -> list[torch.Tensor]:
    return [t.double() if t.is_floating_point() else t for t in tensors]


def exact(policy: Policy, module: nn.Module, generator) -> dict[str, torch.Tensor]:
    """Outputs and gradients in double precision."""
    inputs = policy.draw(BATCH, generator)
    targets = random_targets(module, inputs, generator)
    double = copy.deepcopy(module).double()
    outputs = tuple_of(double(*in_double(inputs)))
    loss_of(outputs, in_double(targets)).backward()
    arrays = {f"in.{name}": value for (name, *_), value in zip(policy.inputs, inputs)}
    arrays |= {f"out.{name}": value for name, value in zip(policy.outputs, outputs)}
    arrays |= {f"target.{name}": value for name, value in zip(policy.outputs, targets)}
    gradients = ((n, p.grad) for n, p in double.named_parameters())
    return arrays | {f"grad.{name}": grad for name, grad in gradients if grad is not None}


def training(policy: Policy, module: nn.Module, generator) -> dict[str, torch.Tensor]:
    """The losses of a run in single precision, before each step; batches in order, cyclically."""
    inputs = policy.draw(SAMPLES, generator)
    targets = random_targets(module, inputs, generator)
    input_axes = [axis for _, _, axis, _ in policy.inputs]
    model = copy.deepcopy(module)
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for step in range(STEPS):
        start = step * BATCH % SAMPLES
        cut = lambda tensors, axes: [t.narrow(a, start, BATCH) for t, a in zip(tensors, axes)]
        loss = loss_of(model(*cut(inputs, input_axes)), cut(targets, policy.output_batch_axes))
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
    # Batches first, so that a batch is a run of elements.
    first = lambda tensor, axis: tensor.movedim(axis, 0).unflatten(0, (-1, BATCH)).movedim(1, axis + 1)
    names = [name for name, *_ in policy.inputs]
    arrays = {f"train.in.{n}": first(t, a) for n, t, a in zip(names, inputs, input_axes)}
    triples = zip(policy.outputs, targets, policy.output_batch_axes)
    arrays |= {f"train.target.{n}": first(t, a) for n, t, a in triples}
    return arrays | {"train.loss": torch.tensor(losses)}


def write_reference(policy: Policy, module: nn.Module, folder: Path):
    generator = torch.Generator().manual_seed(policy.seed() + 1)
    arrays = exact(policy, module, generator) | training(policy, module, generator)
    stored = [
        numpy_helper.from_array(value.detach().numpy().astype(np.float32), name)
        for name, value in sorted(arrays.items())
    ]
    graph = helper.make_graph([], policy.name, [], [], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / f"{policy.name}.reference.onnx").write_bytes(model.SerializeToString(deterministic=True))
