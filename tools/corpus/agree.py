#!/usr/bin/env python3
"""Checks a fine-tuned ONNX file against the one it was made from: `agree.py BASE TUNED`.

The file must pass ONNX's checker and run in Python's onnxruntime with finite outputs, and may differ
from its base in the bytes of float weights and in metadata, in nothing else. The outputs of both for
the same random inputs are printed as their largest difference. Needs onnx, onnxruntime and numpy.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

BATCH = 4
NUMPY = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


def fail(message: str):
    sys.exit(f"agree: {message}")


def without_weights(model: onnx.ModelProto) -> tuple[bytes, dict]:
    """The model with its float initializers emptied and no metadata, and those initializers."""
    bare, weights = onnx.ModelProto(), {}
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    for tensor in bare.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            weights[tensor.name] = numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return bare.SerializeToString(deterministic=True), weights


def only_weights_changed(base: bytes, tuned: bytes):
    (base_bare, old), (tuned_bare, new) = (without_weights(onnx.load_from_string(b)) for b in (base, tuned))
    if base_bare != tuned_bare:
        fail("expected only float weights and metadata to change, found another graph")
    changed = [name for name in old if old[name].tobytes() != new[name].tobytes()]
    broken = [name for name in changed if not np.isfinite(new[name]).all()]
    if broken:
        fail(f"expected finite weights, found others in {broken}")
    print(f"{len(changed)} of {len(old)} float tensors changed: {', '.join(changed) or 'none'}")
    if onnx.load_from_string(base).metadata_props == onnx.load_from_string(tuned).metadata_props:
        spliced_in_place(base, tuned, [(old[name], new[name]) for name in changed])


def spliced_in_place(base: bytes, tuned: bytes, changed: list):
    """Where the metadata is the same too, the files differ inside the weights' bytes only."""
    if len(base) != len(tuned):
        fail(f"expected {len(base)} bytes, found {len(tuned)}")
    rest = bytearray(base)
    for old, new in changed:
        place = base.find(old.tobytes())
        while place >= 0 and tuned[place : place + old.nbytes] != new.tobytes():
            place = base.find(old.tobytes(), place + 1)
        if place < 0:
            fail("expected a changed tensor where its base stands, found another place")
        rest[place : place + old.nbytes] = new.tobytes()
    if bytes(rest) != tuned:
        fail("expected the bytes outside the changed weights to be the same, found others")
    print("all other bytes are the same")


def random_inputs(session, rng) -> dict:
    feed = {}
    for value in session.get_inputs():
        sizes = [size if isinstance(size, int) else BATCH for size in value.shape]
        kind = NUMPY[value.type]
        feed[value.name] = (rng.standard_normal(sizes) if kind != np.int64 else np.zeros(sizes)).astype(kind)
    return feed


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    base, tuned = (Path(path).read_bytes() for path in sys.argv[1:])
    onnx.checker.check_model(onnx.load_from_string(tuned), full_check=True)
    only_weights_changed(base, tuned)
    sessions = [onnxruntime.InferenceSession(b, providers=["CPUExecutionProvider"]) for b in (base, tuned)]
    feed = random_inputs(sessions[0], np.random.default_rng(1))
    before, after = (session.run(None, feed) for session in sessions)
    for value, old, new in zip(sessions[1].get_outputs(), before, after, strict=True):
        if not np.isfinite(new).all():
            fail(f"expected finite outputs, found others in {value.name}")
        print(f"{value.name} {list(new.shape)}: moved by at most {np.abs(new - old).max():.3g}")


if __name__ == "__main__":
    main()
