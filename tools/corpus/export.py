#!/usr/bin/env python3
"""Writes `tests/corpus`: small policies as each exporter writes them, and what PyTorch computes with them."""

import io
import json
import logging
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from policies import POLICIES, Policy
from reference import BATCH, write_reference

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "corpus"


def legacy(policy, module, inputs, dynamic, opset):
    buffer = io.BytesIO()
    torch.onnx.export(
        module, tuple(inputs), buffer, dynamo=False, opset_version=opset,
        input_names=[name for name, *_ in policy.inputs], output_names=list(policy.outputs),
        dynamic_axes=axes(policy, "batch") if dynamic else None,
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def dynamo(policy, module, inputs, dynamic, optimize):
    batch = torch.export.Dim("batch")
    shapes = tuple({axis: batch} for _, _, axis, _ in policy.inputs) if dynamic else None
    program = torch.onnx.export(
        module, tuple(inputs), dynamo=True, optimize=optimize, verbose=False, dynamic_shapes=shapes,
        input_names=[name for name, *_ in policy.inputs], output_names=list(policy.outputs),
    )  # fmt: skip
    return program.model_proto


def axes(policy: Policy, batch: str) -> dict:
    inputs = {name: {axis: batch} for name, _, axis, _ in policy.inputs}
    outputs = zip(policy.outputs, policy.output_batch_axes or (0,))
    return inputs | {name: {axis: batch} for name, axis in outputs}


class JaxMlp(nn.Module):
    """A policy of JAX: weights [in, out]."""

    WIDTHS = [6, 12, 12, 3]

    def __init__(self):
        super().__init__()
        pairs = list(zip(self.WIDTHS, self.WIDTHS[1:]))
        self.kernels = nn.ParameterList(torch.randn(pair) * pair[0] ** -0.5 for pair in pairs)
        self.biases = nn.ParameterList(torch.zeros(width) for width in self.WIDTHS[1:])

    def forward(self, x):
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1]):
            x = torch.nn.functional.silu(x @ kernel + bias)
        return torch.tanh(x @ self.kernels[-1] + self.biases[-1])


def jax2onnx(_policy, module, _inputs, dynamic):
    import jax
    from jax2onnx import to_onnx

    *hidden, last = [(k.detach().numpy(), b.detach().numpy()) for k, b in zip(module.kernels, module.biases)]

    def forward(x):
        for kernel, bias in hidden:
            x = jax.nn.silu(x @ kernel + bias)
        return jax.numpy.tanh(x @ last[0] + last[1])

    shape = ("B" if dynamic else BATCH, module.WIDTHS[0])
    return to_onnx(forward, [shape], opset=21, input_names=["observation"], output_names=["action"])


EXPORTERS = {
    "legacy-17": lambda *args: legacy(*args, 17),
    "legacy-14": lambda *args: legacy(*args, 14),
    "legacy-13": lambda *args: legacy(*args, 13),
    "dynamo": lambda *args: dynamo(*args, True),
    "dynamo-unoptimized": lambda *args: dynamo(*args, False),
    "jax2onnx": jax2onnx,
}
DYNAMO = [(name, dynamic) for name in ("dynamo", "dynamo-unoptimized") for dynamic in (False, True)]
FILES = [("legacy-17", False), ("legacy-13", True), *DYNAMO]
FILES_OF = {
    # Attention has an export from opset 14 on.
    "act": [("legacy-17", False), ("legacy-14", True), *DYNAMO],
    "transformer": [("legacy-17", False), ("legacy-14", True), *DYNAMO],
    "jax_mlp": [("jax2onnx", False), ("jax2onnx", True)],
}


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporting machine's paths and notes: they are most of a small file."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    return model


def parameters_in(module: nn.Module, model: onnx.ModelProto) -> dict:
    """For each of PyTorch's parameters the initializer that holds its value (perhaps with axes of size 1
    more or fewer) or its transpose; null where an exporter folded it into something else. Several in
    one initializer were tied."""
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for name, parameter in module.named_parameters():
        value = parameter.detach().numpy()
        names = sorted(stored, key=lambda other: other != name)
        flat = {n: stored[n].ravel() for n in names if stored[n].dtype == value.dtype}
        same = next((n for n in flat if np.array_equal(flat[n], value.ravel())), None)
        turned = next((n for n in names if np.array_equal(stored[n].T, value)), None)
        found[name] = None
        if same is not None:
            found[name] = {"as": same}
        elif turned is not None:
            found[name] = {"as": turned, "transposed": True}
    return found


def check(policy: Policy, module: nn.Module, model: onnx.ModelProto, dynamic: bool):
    """Python's own runtime agrees with PyTorch, at another batch too where it is open."""
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for batch in (BATCH, 7) if dynamic else (BATCH,):
        inputs = policy.draw(batch, torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = module(*inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        names = [i.name for i in session.get_inputs()]
        assert names == [name for name, *_ in policy.inputs], names
        found = session.run(None, {n: i.numpy() for n, i in zip(names, inputs)})
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(a.numpy(), b, atol=1e-5, rtol=1e-5)


def export(policy: Policy, index: dict) -> nn.Module:
    module = policy.module()
    inputs = policy.draw(BATCH, torch.Generator().manual_seed(policy.seed()))
    for exporter, dynamic in FILES_OF.get(policy.name, FILES):
        name = f"{policy.name}.{exporter}.{'dynamic' if dynamic else 'fixed'}.onnx"
        try:
            model = without_traces(EXPORTERS[exporter](policy, module, inputs, dynamic))
            check(policy, module, model, dynamic)
        except Exception as error:  # An exporter's own failure is worth knowing, not a reason to stop.
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}", file=sys.stderr)
            continue
        (FOLDER / name).write_bytes(model.SerializeToString(deterministic=True))
        parameters = parameters_in(module, model)
        index[name] = {
            "architecture": policy.name, "exporter": exporter,
            "opset": next(o.version for o in model.opset_import if o.domain == ""),
            "batch": None if dynamic else BATCH,
            "operators": dict(sorted(Counter(n.op_type for n in model.graph.node).items())),
            "kept": sum(p == {"as": n} for n, p in parameters.items()), "parameters": parameters,
        }  # fmt: skip
    return module


def main():
    wished = sys.argv[1:]
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "index.json"
    index = json.loads(path.read_text()) if wished and path.exists() else {}
    for policy in [*POLICIES, Policy("jax_mlp", JaxMlp)]:
        if not wished or policy.name in wished:
            module = export(policy, index)
            write_reference(policy, module, FOLDER)
            print(policy.name, flush=True)
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(index.items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
