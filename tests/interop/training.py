#!/usr/bin/env python3
"""Trains every kind of head with PyTorch from offramp's first values and in its reading order, and compares the loss of
each step with offramp's: at most 1e-3 nats apart.

    tests/interop/training.py [--golden] [--demo] [TRIAL...]

The trials are those of tests/golden/training.yaml on the small model of tests/training_model.h, in f64. TRIAL: only those
whose names contain it. --golden writes the losses to tests/golden/training.tsv, with which tests/golden/training.c
compares every build. --demo trains a few on the demo model instead (OFFRAMP_TEST_MODEL), in f32; some minutes.

Runs in the Python that starts it where that has PyTorch, else makes its own environment under .cache/ (6 GB). Needs the
programs in build/, and `make build/tests/interop/training_model`.
"""

import argparse
import ctypes
import json
import math
import os
import pathlib
import struct
import sys
import tempfile

from small_run import ROOT, SWEEP, Store, make_store, offramp, run_sweep

import torch
from heads import Head, norm
from torch.nn import functional as F

TOLERANCE = 1e-3
DEMO_SWEEP = """
steps: 50
sequences: 2
defaults: {vocabulary: all}
trials:
  - {tap: 24, head: affine, init: ridge}
  - {tap: 24.mid, head: mlp, loss: cross-entropy}
"""


# ---- the reading order (train/read_order.h) ----

MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def permute(index, count, seed):
    half = 1
    while half < 32 and count > 1 << 2 * half:
        half += 1
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for number in range(6):
            left, right = right, left ^ mix(right + mix(seed + number + 1 & MASK) & MASK) & mask
        index = left << half | right
        if index < count:
            return index


def xxh3(data, seed):
    function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return function(data, len(data), seed)


def sequence_at(place, count, seed):
    return permute(place % count, count, xxh3(struct.pack("<Q", place // count), seed))


class Trial:
    def __init__(self, start, run, name, store):
        folder, exported = start / "trials" / name, start / "exported" / name
        self.name, self.store = name, store
        self.config = json.loads((folder / "config.json").read_text())
        offramp("train", "--store", store.path, "--export", folder, "--format", "torch", "--out", exported)
        self.head = Head.load(exported, store.output, store.dtype)
        points = [json.loads(line) for line in (run / "trials" / name / "metrics.jsonl").read_text().splitlines()]
        self.losses = [point["loss"] for point in points if "loss" in point]


# ---- training ----


def distillation(trial, hidden, logits, batch):
    store, heat = trial.store, trial.config["temperature"]
    if trial.config["output"] == "tied" and heat == 1:
        return torch.logsumexp(logits, -1) - (hidden * store.tap("target")[batch]).sum(-1)
    teacher = F.linear(norm(store.tap("final")[batch], store.final_norm, trial.head.epsilon), store.output)
    return -heat**2 * (F.softmax(teacher / heat, -1) * F.log_softmax(logits / heat, -1)).sum(-1)


def loss_of_rows(trial, hidden, logits, batch):
    """kernels/ops.h, struct vocab_loss."""
    config, loss = trial.config, 0
    share = {"cross-entropy": 1, "distillation": 0, "mix": config["share"]}[config["loss"]]
    if share > 0:
        labels = trial.store.tokens[batch][:, 1:]
        loss = share * F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    if share < 1:
        loss = loss + (1 - share) * distillation(trial, hidden, logits, batch)
    return loss if config["weighting"] == "none" else loss * F.softmax(logits, -1).amax(-1).detach()


def loss_of(trial, batch):
    """Mean over the rows, in nats."""
    store, head = trial.store, trial.head
    hidden = head.hidden(store.tap(trial.config["tap"])[batch])
    logits = F.linear(hidden, head.tensor["output"] if "output" in head.tensor else store.output)
    return loss_of_rows(trial, hidden, logits, batch).mean()


def rate_at(config, step, steps):
    """train/trial_config.h; step from 1."""
    if step <= config["warmup"]:
        return config["rate"] * step / config["warmup"]
    done = (step - config["warmup"]) / (steps - config["warmup"])
    return config["rate"] * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(trial, settings):
    """The losses of the steps."""
    config, steps, count = trial.config, settings["steps"], len(trial.store.tokens)
    trained = [value for value in trial.head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, betas=(config["beta1"], config["beta2"]), eps=config["epsilon"], weight_decay=config["decay"]
    )
    losses = []
    for step in range(1, steps + 1):
        places = range((step - 1) * settings["sequences"], step * settings["sequences"])
        loss = loss_of(trial, torch.tensor([sequence_at(place, count, settings["seed"]) for place in places]))
        optimizer.zero_grad()
        loss.backward()
        if config["clip"] > 0:
            torch.nn.utils.clip_grad_norm_(trained, config["clip"])
        for group in optimizer.param_groups:
            group["lr"] = rate_at(config, step, steps)
        optimizer.step()
        losses.append(loss.item())
    return losses


def compare(trial, losses):
    differences = [abs(a - b) for a, b in zip(losses, trial.losses)]
    good = len(losses) == len(trial.losses) and max(differences) <= TOLERANCE
    print(
        f"{trial.name}: loss {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps, at most {max(differences):.1e} apart"
        f"{'' if good else ': NOT THE SAME'}",
        flush=True,
    )
    return good


def prepare(options, folder):
    """The store's path, and the sweep's text."""
    if options.demo:
        store = folder / "store"
        model = os.environ.get("OFFRAMP_TEST_MODEL") or sys.exit("--demo: OFFRAMP_TEST_MODEL is not set")
        offramp(
            *("extract", "--model", model, "--corpus", ROOT / "README.md", "--tokens", 4096, "--seq-len", 64, "--codec", "raw:f32"),
            *("--taps", "24,24.mid,final", "--out", store),
        )
        return store, DEMO_SWEEP
    return make_store(folder), SWEEP.read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("trial", nargs="*")
    options = parser.parse_args()
    good, golden = True, []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path, text = prepare(options, folder)
        settings = run_sweep(path, text, 50, folder / "run")
        run_sweep(path, text, 0, folder / "start")
        store = Store(path, folder, torch.float32 if options.demo else torch.float64)
        for name in sorted(settings["result"]["trials"]):
            if options.trial and not any(part in name for part in options.trial):
                continue
            trial = Trial(folder / "start", folder / "run", name, store)
            losses = train(trial, settings)
            good &= compare(trial, losses)
            golden.append("\t".join([name, *(f"{loss:.7f}" for loss in losses)]) + "\n")
    if options.golden and not options.trial and not options.demo:
        (ROOT / "tests/golden/training.tsv").write_text("".join(golden))
    sys.exit(0 if good else 1)


main()
