"""ONNX Runtime on a maskwatch bundle: the same weights, the same views, the same structure.

In: a bundle of architecture `mlp` and objective `masked` whose fields are all numeric and never null. Out: a table of
microseconds a record by batch size, one thread. The graph does what a fair rewrite can: all views in one batch through
the trunk, output heads only for the fields that a view hides, log-sum-exp and one logit of the histogram. Its result is
checked against a NumPy forward in double precision before anything is timed, and a difference ends the program.

    python onnx_scoring.py BUNDLE [--batches 1,32,1024] [--seconds 2]
"""

import argparse
import statistics
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bundle import NORM_EPSILON, Bundle, standard_normal

# Relative, as that of the project's own scorer against its oracle, with room for the histogram's log-sum-exp in f32.
TOLERANCE = 1e-4


class Graph:
    """Nodes and constants of an ONNX graph, named as they come."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, kind, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def norm(self, x, width):
        # Without parameters: a scale of one, and no bias.
        return self.add("LayerNormalization", x, self.constant(np.ones(width, np.float32)), axis=-1, epsilon=NORM_EPSILON)

    def linear(self, x, weight, bias):
        return self.add("Add", self.add("MatMul", x, self.constant(weight)), self.constant(bias))


def build(bundle):
    """The graph: z [B, F] and bin [B, F] in, for every view and reading the surprises [B, hidden] out."""
    graph, weights = Graph(), bundle.weights
    fields, width = len(bundle.fields), bundle.width
    visible = np.ones((len(bundle.views), fields), np.float32)
    for k, hidden in enumerate(bundle.views):
        visible[k, hidden] = 0
    mask = graph.constant(visible[None])
    z = graph.add("Unsqueeze", "z", graph.constant(np.array([1], np.int64)))
    shown = graph.add("Mul", z, mask)
    known = graph.add("Add", graph.add("Mul", z, graph.constant(np.zeros((1, 1, 1), np.float32))), mask)
    x = graph.add("Concat", shown, known, axis=-1)
    h = graph.linear(x, weights["input.weight"], weights["input.bias"])
    for b in range(bundle.blocks):
        part = lambda name: weights[f"block.{b:02}.{name}"]
        inner = graph.linear(graph.norm(h, width), part("up.weight"), part("up.bias"))
        inner = graph.add("Gelu", inner, approximate="tanh")
        h = graph.add("Add", h, graph.linear(inner, part("down.weight"), part("down.bias")))
    latent = graph.norm(h, width)
    outputs = []
    for k, hidden in enumerate(bundle.views):
        own = graph.add("Gather", latent, graph.constant(np.array(k, np.int64)), axis=1)
        places = graph.constant(np.array(hidden, np.int64))
        for reading in bundle.readings:
            columns = bundle.columns(reading, hidden)
            o = graph.linear(own, weights["output.weight"][:, columns], weights["output.bias"][columns])
            if reading == "histogram":
                shape = graph.constant(np.array([-1, len(hidden), bundle.bins], np.int64))
                o = graph.add("Reshape", o, shape)
                last = graph.constant(np.array([2], np.int64))
                total = graph.add("ReduceLogSumExp", o, last, keepdims=0)
                bins = graph.add("Gather", "bin", places, axis=1)
                chosen = graph.add("GatherElements", o, graph.add("Unsqueeze", bins, last), axis=2)
                outputs.append(graph.add("Sub", total, graph.add("Squeeze", chosen, last)))
            else:
                error = graph.add("Sub", o, graph.add("Gather", "z", places, axis=1))
                outputs.append(graph.add("Mul", error, error))
    surprises = graph.add("Concat", *outputs, axis=1)
    value = helper.make_tensor_value_info
    inputs = [value("z", TensorProto.FLOAT, ["B", fields]), value("bin", TensorProto.INT64, ["B", fields])]
    result = [value(surprises, TensorProto.FLOAT, ["B", None])]
    made = helper.make_graph(graph.nodes, "maskwatch", inputs, result, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def reference(bundle, z):
    """The same surprises by NumPy in double precision, written from the formula and not from the graph."""
    bins, found = bundle.bin_of(z), []
    for hidden in bundle.views:
        visible = np.ones_like(z)
        visible[:, hidden] = 0
        logits = bundle.logits(z, visible)
        for reading in bundle.readings:
            for f in hidden:
                o = logits[:, bundle.columns(reading, [f])]
                if reading == "histogram":
                    most = o.max(1)
                    total = most + np.log(np.exp(o - most[:, None]).sum(1))
                    found.append(total - o[np.arange(len(o)), bins[:, f]])
                else:
                    found.append((o[:, 0] - z[:, f].astype(np.float64)) ** 2)
    return np.stack(found, 1)


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle")
    arguments.add_argument("--batches", default="1,32,1024")
    arguments.add_argument("--seconds", type=float, default=2.0, help="a batch size, at least three runs")
    options = arguments.parse_args()
    bundle = Bundle(options.bundle)
    scorer = session(build(bundle))
    batches = [int(rows) for rows in options.batches.split(",")]
    z = standard_normal(max(batches), len(bundle.fields))
    feed = lambda rows: {"z": z[:rows], "bin": bundle.bin_of(z[:rows])}
    expected = reference(bundle, z[:64])
    (found,) = scorer.run(None, feed(min(64, len(z))))
    worst = np.max(np.abs(found - expected[: len(found)]) / np.maximum(1, np.abs(expected[: len(found)])))
    if not worst <= TOLERANCE:
        raise SystemExit(f"ONNX Runtime differs from the formula by {worst:.2e}, at most {TOLERANCE:.0e} is right")
    print(f"{len(bundle.views)} views, {len(bundle.fields)} fields; worst relative difference {worst:.1e}\n")
    print("| batch | us of processor a record, median | runs |\n|---|---|---|")
    for rows in batches:
        inputs, times = feed(rows), []
        scorer.run(None, inputs)
        end = time.monotonic() + options.seconds
        while len(times) < 3 or time.monotonic() < end:
            begin = time.process_time()
            scorer.run(None, inputs)
            times.append((time.process_time() - begin) / rows * 1e6)
        print(f"| {rows} | {statistics.median(times):.1f} | {len(times)} |")


if __name__ == "__main__":
    main()
