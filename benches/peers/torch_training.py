"""PyTorch training of the model of a maskwatch bundle: the trainer that a user would write instead.

In: a bundle that `onnx_bundle` can express, with the default objective. Out: a table of milliseconds a step, processor
and wall time, run step by step (`eager`) and through `torch.compile`. The model has the bundle's layers, outputs and
number of weights, and a step does what a step of `maskwatch train` does with the bundle's configuration: the next rows
of a shuffle, a random mask, the smoothed histogram's cross entropy and Student's t or the squared error of the hidden
fields, backward, clipping by norm, AdamW under a warm-up and a cosine. The loss under the bundle's weights is checked
against a NumPy forward in double precision before anything is timed, and a difference ends the program. Records are
made up and encoded before the first step. Beyond its bounds Student's log scale has no gradient here, where the product
lets pass the one that leads back in.

    python torch_training.py BUNDLE [--threads 1] [--steps 300] [--variants eager,compiled] [--profile]
"""

import argparse
import itertools
import math
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from onnx_bundle import CLIP, NORM_EPSILON, Bundle, log_sum_exp, logits_of

# What the step below does; a bundle that was trained otherwise is refused.
TRAINING = {"objective": "masked", "optimizer": "adamw", "swap_noise": 0, "trim": 0, "average_decay": 0}
MODEL = {"architecture": "mlp", "dropout": 0}
# Relative: float32 against double precision.
TOLERANCE = 1e-4
# Of the location that scoring reads as robust: trained by Student's t with 4 degrees of freedom.
LOG_SCALE = -3.0, 4.0
STUDENT_T_CONSTANT = 0.9808293
ROWS = 65_536


def records(rows, fields):
    """Made-up encoded records z [rows, fields]: what is computed does not depend on the values."""
    return np.clip(np.random.default_rng(0).normal(size=(rows, fields)), -CLIP, CLIP).astype(np.float32)


def smoothed_targets(bundle):
    """The histogram's targets, [bin, bins]: a Gaussian around the true bin, each row of sum 1."""
    distance = np.arange(bundle.bins)[:, None] - np.arange(bundle.bins)
    weight = np.exp(-0.5 * (distance / bundle.model["histogram_smoothing_bins"]) ** 2)
    return weight / weight.sum(1, keepdims=True)


class Block(nn.Module):
    """h plus linear(gelu(linear(norm(h))))."""

    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, h):
        normed = functional.layer_norm(h, h.shape[-1:], eps=NORM_EPSILON)
        return h + self.down(functional.gelu(self.up(normed), approximate="tanh"))


class MaskedAutoencoder(nn.Module):
    """Visible values and visibility [B, 2 F] to logits [B, F, outputs of a field]."""

    def __init__(self, fields, width, blocks, width_of_field):
        super().__init__()
        self.input = nn.Linear(2 * fields, width)
        self.block = nn.ModuleList(Block(width) for _ in range(blocks))
        self.output = nn.Linear(width, fields * width_of_field)
        self.fields = fields

    def forward(self, x):
        h = self.input(x)
        for block in self.block:
            h = block(h)
        logits = self.output(functional.layer_norm(h, h.shape[-1:], eps=NORM_EPSILON))
        return logits.unflatten(-1, (self.fields, -1))

    def load(self, weights):
        """Takes a bundle's weights, [in, out] there; PyTorch ends the program if a name or a shape differs."""
        named = {name.replace("block.0", "block."): torch.from_numpy(value) for name, value in weights.items()}
        self.load_state_dict({name: value.T if value.ndim == 2 else value for name, value in named.items()})

    def operations(self, rows):
        """Operations of a step's matrix products: forward, by weights, by inputs; the first layer's inputs need none."""
        products = sum(p.numel() for p in self.parameters() if p.ndim == 2)
        return 2 * rows * (3 * products - self.input.weight.numel())


class MaskedLoss(nn.Module):
    """The mean over hidden fields of the sum over readings, from z and bin [B, F] and the mask hidden [B, F]."""

    def __init__(self, model, bundle, select):
        super().__init__()
        self.model = model
        self.readings = [(reading, bundle.columns_of_field(reading)) for reading in bundle.readings]
        # Eager code is faster on the hidden fields alone; compiled code on all of them, whose number is fixed.
        self.select = select
        self.register_buffer("smoothed", torch.from_numpy(smoothed_targets(bundle)).float())

    def forward(self, z, bins, hidden):
        visible = ~hidden
        logits = self.model(torch.cat([z * visible, visible], dim=1))
        if self.select:
            logits, z, bins = logits[hidden], z[hidden], bins[hidden]
        loss = 0
        for reading, columns in self.readings:
            output = logits[..., columns.start : columns.stop]
            if reading == "histogram":
                loss = loss - (self.smoothed[bins] * output.log_softmax(-1)).sum(-1)
            elif reading == "squared_error":
                loss = loss + (output.squeeze(-1) - z).square()
            elif reading == "robust_squared_error":
                log_scale = output[..., 1].clamp(*LOG_SCALE)
                standardised = (output[..., 0] - z) * (-log_scale).exp()
                loss = loss + 2.5 * torch.log1p(standardised.square() / 4) + log_scale + STUDENT_T_CONSTANT
        return loss.mean() if self.select else (loss * hidden).sum() / hidden.sum()


def masks(rows, fields, ratio_min, ratio_max):
    """True where a field is hidden: every row by a ratio of its own, at least one field of each."""
    ratio = ratio_min + (ratio_max - ratio_min) * torch.rand(rows, 1)
    hidden = torch.rand(rows, fields) < ratio
    nothing = ~hidden.any(1, keepdim=True)
    return hidden | (nothing & functional.one_hot(torch.randint(fields, (rows,)), fields).bool())


def batches(rows, size):
    """Row numbers of one batch after the other, shuffled anew when all were used."""
    while True:
        yield from (batch for batch in torch.randperm(rows).split(size) if len(batch) == size)


def rate(step, warmup, steps):
    """The share of the peak learning rate: linear up, half a cosine down."""
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, steps - warmup))))


def steps(bundle, select, compiled):
    """Trains for ever, a step each time it is asked; gives the loss."""
    training, fields = bundle.training, len(bundle.fields)
    model = MaskedAutoencoder(fields, bundle.model["width"], bundle.blocks, bundle.width_of_field)
    model.load(bundle.weights)
    loss_of = MaskedLoss(model, bundle, select)
    if compiled:
        loss_of = torch.compile(loss_of)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"], fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step, training["warmup_steps"], training["steps"])
    )
    made_up = records(ROWS, fields)
    z, bins = torch.from_numpy(made_up), torch.from_numpy(bundle.bin_of(made_up))
    for rows in batches(ROWS, training["batch_rows"]):
        loss = loss_of(z[rows], bins[rows], masks(len(rows), fields, *training["mask_ratio"]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training["gradient_norm_max"])
        optimizer.step()
        scheduler.step()
        yield loss.item()


def check(bundle, select):
    """Ends the program if the model or its loss is not the bundle's."""
    fields = len(bundle.fields)
    model = MaskedAutoencoder(fields, bundle.model["width"], bundle.blocks, bundle.width_of_field)
    found, expected = sum(p.numel() for p in model.parameters()), sum(w.size for w in bundle.weights.values())
    if found != expected:
        raise SystemExit(f"the model has {found} parameters, the bundle's weights are {expected}")
    model.load(bundle.weights)
    z, hidden = records(256, fields), masks(256, fields, 0, 1)
    bins = bundle.bin_of(z)
    with torch.no_grad():
        loss = MaskedLoss(model, bundle, select)(torch.from_numpy(z), torch.from_numpy(bins), hidden).item()
    hidden = hidden.numpy()
    logits = logits_of(bundle, z.astype(np.float64), ~hidden).reshape(*z.shape, -1)[hidden]
    formula = 0
    for reading in bundle.readings:
        o = logits[:, bundle.columns_of_field(reading)]
        if reading == "histogram":
            logarithms = o - log_sum_exp(o)[:, None]
            formula -= (smoothed_targets(bundle)[bins[hidden]] * logarithms).sum(1).mean()
        elif reading == "squared_error":
            formula += ((o[:, 0] - z[hidden].astype(np.float64)) ** 2).mean()
        elif reading == "robust_squared_error":
            log_scale = np.clip(o[:, 1], *LOG_SCALE)
            ratio = ((z[hidden].astype(np.float64) - o[:, 0]) / np.exp(log_scale)) ** 2 / 4
            constant = math.lgamma(2.5) - math.lgamma(2) - 0.5 * math.log(4 * math.pi)
            formula += (2.5 * np.log(1 + ratio) + log_scale - constant).mean()
    difference = abs(loss - formula) / abs(formula)
    if not difference <= TOLERANCE:
        raise SystemExit(f"PyTorch's loss {loss} differs from the formula's {formula} by {difference:.2e}")
    return model, loss, difference


def profile(training):
    """Where a step's processor time goes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in itertools.islice(training, 50):
            pass
    times = {event.key: event.self_cpu_time_total / 50 for event in profiler.key_averages()}
    total = sum(times.values())
    products = sum(times.get(f"aten::{name}", 0) for name in ("mm", "addmm"))
    print(f"\nmatrix products {products / total:.0%} of {total / 1000:.2f} ms as the profiler sees them; by operation:\n")
    print("| operation | ms a step | share |\n|---|---|---|")
    for name, time_us in sorted(times.items(), key=lambda item: -item[1])[:14]:
        print(f"| {name} | {time_us / 1000:.2f} | {time_us / total:.0%} |")
    print()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--steps", type=int, default=300, help="timed steps, after as many as --warmup")
    arguments.add_argument("--warmup", type=int, default=50)
    arguments.add_argument("--variants", default="eager,compiled", help="of eager, compiled")
    arguments.add_argument("--profile", action="store_true", help="also shows the operations that a step consists of")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bundle = Bundle(options.bundle)
    # A bundle names it only where it is not 0.
    gamma = {"histogram_gamma": bundle.model.get("histogram_gamma", 0)}
    for section, supported in ((bundle.training, TRAINING), (bundle.model, MODEL), (gamma, {"histogram_gamma": 0})):
        for key, value in supported.items():
            if section[key] != value:
                raise SystemExit(f"{key} = {section[key]!r}: only {value!r} is supported")
    for select in (True, False):
        model, loss, difference = check(bundle, select)
    rows = bundle.training["batch_rows"]
    operations = model.operations(rows)
    print(f"PyTorch {torch.__version__}, {options.threads} threads; {sum(p.numel() for p in model.parameters())} parameters,", end=" ")
    print(f"batch {rows}, {operations / 1e9:.3f} GFLOP of products a step; loss {loss:.4f}, relative difference {difference:.1e}\n")
    print("| variant | ms of processor a step, median | mean | ms of wall, median | mean | GFLOP/s of processor time | steps |")
    print("|---|---|---|---|---|---|---|")
    for variant in options.variants.split(","):
        compiled = {"eager": False, "compiled": True}[variant]
        training = steps(bundle, select=not compiled, compiled=compiled)
        for _ in itertools.islice(training, options.warmup):
            pass
        processor, wall = [], []
        for _ in range(options.steps):
            begin = time.process_time(), time.perf_counter()
            loss = next(training)
            processor.append((time.process_time() - begin[0]) * 1000)
            wall.append((time.perf_counter() - begin[1]) * 1000)
        if not math.isfinite(loss):
            raise SystemExit(f"{variant}: the loss is {loss} after {options.warmup + options.steps} steps")
        middle = [f"{summary(times):.2f}" for times in (processor, wall) for summary in (statistics.median, statistics.mean)]
        speed = operations / statistics.median(processor) / 1e6
        print(f"| {variant} | {' | '.join(middle)} | {speed:.0f} | {options.steps} |", flush=True)
        if options.profile:
            profile(training)


if __name__ == "__main__":
    main()
