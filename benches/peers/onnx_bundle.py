"""A maskwatch bundle in ONNX: the same weights, the same views, the same structure; shared by the programs of this folder.

In: a bundle of architecture `mlp` and objective `masked` whose fields are all numeric and never null. Out: the fields'
encoding, a graph from encoded records to surprises, and the same surprises from the formula in NumPy. The graph does what a
fair rewrite can: all views in one batch through the trunk, output heads only for the fields that a view hides, log-sum-exp
and one logit of the histogram.
"""

import json
import math
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

NORM_EPSILON = 1e-5
# Standard deviations beyond which values are clipped.
CLIP = 10
# Relative, as that of the project's own scorer against its oracle, with room for the histogram's log-sum-exp in f32.
TOLERANCE = 1e-4


class Bundle:
    """Weights and shape of a bundle; refuses what the graph cannot express."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.weights = load_file(folder / "weights.safetensors")
        manifest = json.loads((folder / "manifest.json").read_text())
        self.model_id, description = manifest["model_id"], manifest["description"]
        self.training = description["training"]
        self.fields = description["encoder"]
        self.model = description["model"]
        for field in self.fields:
            if field.get("nulls", 0) or "numeric" not in json.dumps(field["value"]):
                raise SystemExit(f"field {field['name']}: only numeric fields without nulls are supported")
        if self.model["masking"] == "token":
            raise SystemExit("masking by token is not supported")
        self.readings = self.model["likelihood"]
        self.bins = self.model["histogram_bins"]
        # How many outputs each reading has; of a robust location they are location and log scale.
        self.outputs = {"histogram": self.bins, "squared_error": 1, "robust_squared_error": 2}
        self.outputs |= {f"quantile_{reading}": self.outputs[reading] for reading in ("histogram", "robust_squared_error")}
        if not set(self.readings) <= set(self.outputs):
            raise SystemExit(f"readings {self.readings}: only {', '.join(self.outputs)} are supported")
        # The view through noise hides nothing, and the graph does not have it.
        strata = [stratum["hidden"] for stratum in description["views"] if "denoising" not in stratum]
        self.views = [view for hidden in strata for view in hidden]
        # Surprises of a record in the order of the graph: by view, then reading, then field; each stratum and reading weighs
        # the same.
        places = [(sum(len(view) for view in hidden), view) for hidden in strata for view in hidden]
        weights = [1 / count for count, view in places for _ in self.readings for _ in view]
        self.mean_weights = np.array(weights, np.float32) / (len(strata) * len(self.readings))
        schema = {field["name"]: field for field in description["schema"]["fields"]}
        self.names = [field["name"] for field in self.fields]
        self.paths = [schema[name]["path"] for name in self.names]
        role = lambda wanted: next((f["path"] for f in schema.values() if f["role"] == wanted), None)
        self.key_path, self.time_path = role("key"), role("time")
        encoders = [field["value"] for field in self.fields]
        self.means = np.array([encoder["mean"] for encoder in encoders])
        self.scales = np.array([encoder["scale"] for encoder in encoders])
        self.transforms = [encoder["transform"] for encoder in encoders]
        self.quantiles = [encoder["quantiles"] for encoder in encoders]
        # The rows of the input layer: z and q of each field in turn, then what is visible. What is told of noise is 0.
        of_numbers = 2 * len(self.fields)
        rows = [*range(0, of_numbers, 2), *range(1, of_numbers, 2), *range(of_numbers, of_numbers + len(self.fields))]
        self.input_weight = self.weights["input.weight"][rows]
        self.blocks = self.model["blocks"]
        self.width_of_field = sum(self.outputs[r] for r in self.readings)

    def columns(self, reading, hidden):
        """Columns of the output layer that scoring reads for `reading` of the fields `hidden`."""
        of_field = self.columns_of_field(reading)
        read = of_field if reading.endswith("histogram") else of_field[:1]
        return [f * self.width_of_field + i for f in hidden for i in read]

    def columns_of_field(self, reading):
        """Where `reading` stands among the outputs of one field."""
        before = sum(self.outputs[r] for r in self.readings[: self.readings.index(reading)])
        return range(before, before + self.outputs[reading])

    def feed(self, x):
        """Numbers [B, F] as they are in records -> what the graph takes: z and q [B, F], and the bin of each."""
        return self.encoded(*self.encode(x))

    def encoded(self, z, q):
        return {"z": z, "q": q, "bin": self.bin_of(z), "quantile_bin": self.bin_of(q)}

    def encode(self, x):
        """Numbers [B, F] as they are in records -> z and q [B, F]: standardised, and normal quantiles; both clipped."""
        for f, transform in enumerate(self.transforms):
            if transform == "log1p":
                x[:, f] = np.copysign(np.log1p(np.abs(x[:, f])), x[:, f])
            elif transform == "asinh":
                x[:, f] = np.arcsinh(x[:, f])
        z = np.clip((x - self.means) / self.scales, -CLIP, CLIP)
        q = np.stack([self.quantile(f, x[:, f]) for f in range(x.shape[1])], 1)
        return z.astype(np.float32), q.astype(np.float32)

    def quantile(self, f, y):
        """Linear between knots; beyond them the logarithm of the distance."""
        values, scores, unit = (self.quantiles[f][key] for key in ("values", "scores", "unit"))
        below = np.log1p(np.maximum(values[0] - y, 0) / unit)
        above = np.log1p(np.maximum(y - values[-1], 0) / unit)
        return np.clip(np.interp(y, values, scores) - below + above, -CLIP, CLIP)

    def mean_surprise(self, surprises):
        """Surprises [B, ...] of the graph -> their mean over fields, strata and readings, [B]."""
        return surprises @ self.mean_weights

    def bin_of(self, z):
        limit = math.asinh(20) + 1e-3
        place = np.floor((np.arcsinh(2 * z.astype(np.float64)) + limit) / (2 * limit) * self.bins)
        return np.clip(place, 0, self.bins - 1).astype(np.int64)


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
    """The graph: z, q and their bins [B, F] in, for every view and reading the surprises [B, hidden] out."""
    graph, weights = Graph(), bundle.weights
    fields, width = len(bundle.fields), weights["input.bias"].shape[0]
    visible = np.ones((len(bundle.views), fields), np.float32)
    for k, hidden in enumerate(bundle.views):
        visible[k, hidden] = 0
    mask = graph.constant(visible[None])
    z, q = (graph.add("Unsqueeze", name, graph.constant(np.array([1], np.int64))) for name in "zq")
    shown = [graph.add("Mul", numbers, mask) for numbers in (z, q)]
    known = graph.add("Add", graph.add("Mul", z, graph.constant(np.zeros((1, 1, 1), np.float32))), mask)
    x = graph.add("Concat", *shown, known, axis=-1)
    h = graph.linear(x, bundle.input_weight, weights["input.bias"])
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
            numbers, of_bins = ("q", "quantile_bin") if reading.startswith("quantile") else ("z", "bin")
            if reading.endswith("histogram"):
                shape = graph.constant(np.array([-1, len(hidden), bundle.bins], np.int64))
                o = graph.add("Reshape", o, shape)
                last = graph.constant(np.array([2], np.int64))
                total = graph.add("ReduceLogSumExp", o, last, keepdims=0)
                bins = graph.add("Gather", of_bins, places, axis=1)
                chosen = graph.add("GatherElements", o, graph.add("Unsqueeze", bins, last), axis=2)
                outputs.append(graph.add("Sub", total, graph.add("Squeeze", chosen, last)))
            else:
                error = graph.add("Sub", o, graph.add("Gather", numbers, places, axis=1))
                outputs.append(graph.add("Mul", error, error))
    surprises = graph.add("Concat", *outputs, axis=1)
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.FLOAT, ["B", fields]) for name in "zq"]
    inputs += [value(name, TensorProto.INT64, ["B", fields]) for name in ("bin", "quantile_bin")]
    result = [value(surprises, TensorProto.FLOAT, ["B", None])]
    made = helper.make_graph(graph.nodes, "maskwatch", inputs, result, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def norm(h):
    centred = h - h.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + NORM_EPSILON)


def logits_of(bundle, z, q, visible):
    """The outputs [B, O] of all fields by NumPy in double precision, from z and q [B, F] and what is visible, 1 or 0."""
    weights = {name: value.astype(np.float64) for name, value in bundle.weights.items()}
    shown = np.concatenate([z * visible, q * visible, visible], 1)
    h = shown @ bundle.input_weight.astype(np.float64) + weights["input.bias"]
    for b in range(bundle.blocks):
        a = norm(h) @ weights[f"block.{b:02}.up.weight"] + weights[f"block.{b:02}.up.bias"]
        a = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        h = h + a @ weights[f"block.{b:02}.down.weight"] + weights[f"block.{b:02}.down.bias"]
    return norm(h) @ weights["output.weight"] + weights["output.bias"]


def log_sum_exp(o):
    most = o.max(1)
    return most + np.log(np.exp(o - most[:, None]).sum(1))


def reference(bundle, z, q):
    """The same surprises by NumPy in double precision, written from the formula and not from the graph."""
    scales = [(bundle.bin_of(numbers), numbers.astype(np.float64)) for numbers in (z, q)]
    (_, z), (_, q) = scales
    found = []
    for hidden in bundle.views:
        visible = np.ones_like(z)
        visible[:, hidden] = 0
        logits = logits_of(bundle, z, q, visible)
        for reading in bundle.readings:
            bins, numbers = scales[reading.startswith("quantile")]
            for f in hidden:
                o = logits[:, bundle.columns(reading, [f])]
                if reading.endswith("histogram"):
                    found.append(log_sum_exp(o) - o[np.arange(len(o)), bins[:, f]])
                else:
                    found.append((o[:, 0] - numbers[:, f]) ** 2)
    return np.stack(found, 1)


def made_up(rows, fields, seed=0):
    """Encoded numbers [rows, fields]: what is computed does not depend on the values."""
    drawn = np.random.default_rng(seed).normal(size=(rows, fields))
    return np.clip(drawn, -CLIP, CLIP).astype(np.float32)


def session(bundle, threads):
    """A session of the bundle's graph on `threads` threads, checked against the formula."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(build(bundle), options, providers=["CPUExecutionProvider"])
    z, q = made_up(64, len(bundle.fields)), made_up(64, len(bundle.fields), seed=1)
    expected = reference(bundle, z, q)
    (found,) = made.run(None, bundle.encoded(z, q))
    worst = np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected)))
    if not worst <= TOLERANCE:
        raise SystemExit(f"ONNX Runtime differs from the formula by {worst:.2e}, at most {TOLERANCE:.0e} is right")
    return made, worst
