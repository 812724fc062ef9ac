"""A maskwatch bundle as the peers read it: weights, shape, views and training configuration.

In: a folder that `maskwatch train` wrote, of architecture `mlp` and objective `masked`, whose fields are all numeric and
never null. What the peers cannot express ends the program instead of being left out.
"""

import json
import math
import pathlib

import numpy as np
from safetensors.numpy import load_file

NORM_EPSILON = 1e-5


class Bundle:
    """Weights and shape of a bundle; refuses what the peers cannot express."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.weights = load_file(folder / "weights.safetensors")
        description = json.loads((folder / "manifest.json").read_text())["description"]
        self.fields = description["encoder"]
        self.model = description["model"]
        self.training = description["training"]
        for field in self.fields:
            if field.get("nulls", 0) or "numeric" not in json.dumps(field["value"]):
                raise SystemExit(f"field {field['name']}: only numeric fields without nulls are supported")
        for section, key, known in [
            (self.model, "architecture", "mlp"),
            (self.model, "masking", "drop"),
            (self.training, "objective", "masked"),
        ]:
            if section[key] != known:
                raise SystemExit(f"{key} = {section[key]!r}: only {known!r} is supported")
        self.readings = self.model["likelihood"]
        if not set(self.readings) <= {"histogram", "squared_error"}:
            raise SystemExit(f"readings {self.readings}: only histogram and squared_error are supported")
        self.bins = self.model["histogram_bins"]
        self.views = [view for stratum in description["views"] for view in stratum["hidden"]]
        self.width = self.model["width"]
        self.blocks = self.model["blocks"]
        self.width_of_field = sum(self.bins if r == "histogram" else 1 for r in self.readings)

    def columns_of_field(self, reading):
        """Where `reading` stands among the outputs of one field."""
        before = sum(self.bins if r == "histogram" else 1 for r in self.readings[: self.readings.index(reading)])
        return range(before, before + (self.bins if reading == "histogram" else 1))

    def columns(self, reading, hidden):
        """Columns of the output layer that hold `reading` of the fields `hidden`."""
        return [f * self.width_of_field + i for f in hidden for i in self.columns_of_field(reading)]

    def bin_of(self, z):
        limit = math.asinh(20) + 1e-3
        place = np.floor((np.arcsinh(2 * z.astype(np.float64)) + limit) / (2 * limit) * self.bins)
        return np.clip(place, 0, self.bins - 1).astype(np.int64)

    def smoothed(self):
        """The histogram's targets, [bin, bins]: a Gaussian around the true bin, cut at the ends, each row of sum 1."""
        distance = np.arange(self.bins)[:, None] - np.arange(self.bins)
        deviation = self.model["histogram_smoothing_bins"]
        kernel = np.exp(-0.5 * (distance / deviation) ** 2) * (np.abs(distance) <= math.ceil(6 * deviation))
        return kernel / kernel.sum(1, keepdims=True)

    def logits(self, z, visible):
        """The forward pass by NumPy in double precision, from the formula: z and visible [B, F], logits [B, O]."""
        weights = {name: value.astype(np.float64) for name, value in self.weights.items()}

        def norm(h):
            centred = h - h.mean(-1, keepdims=True)
            return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + NORM_EPSILON)

        h = np.concatenate([z * visible, visible], 1).astype(np.float64) @ weights["input.weight"] + weights["input.bias"]
        for b in range(self.blocks):
            a = norm(h) @ weights[f"block.{b:02}.up.weight"] + weights[f"block.{b:02}.up.bias"]
            a = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
            h = h + a @ weights[f"block.{b:02}.down.weight"] + weights[f"block.{b:02}.down.bias"]
        return norm(h) @ weights["output.weight"] + weights["output.bias"]


def standard_normal(rows, fields):
    """Made-up encoded records [rows, fields], always the same: what is computed does not depend on the values."""
    return np.clip(np.random.default_rng(0).normal(size=(rows, fields)), -10, 10).astype(np.float32)
