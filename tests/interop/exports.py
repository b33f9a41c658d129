#!/usr/bin/env python3
"""Loads what `train --export` writes, each format in its own software, and compares the logits with offramp's: at most 1e-4
of their RMS apart.

    tests/interop/exports.py [TRIAL...]

The trials are those of tests/golden/training.yaml, on the small model of tests/training_model.h. TRIAL: only those whose
names contain it.

torch     heads.py
ee-llm    a few lines of PyTorch that do what EE-LLM's EarlyExitTransformerLayer does with these tensors

Runs in the Python that starts it where that has PyTorch, else makes the environment of training.py. Needs the programs in
build/, and `make build/tests/interop/training_model build/tests/interop/head_logits`.
"""

import json
import subprocess
import sys
import tempfile
import pathlib

from small_run import BUILD, SWEEP, Store, make_store, offramp, run_sweep

import torch
from heads import Head, norm
from safetensors.torch import load_file
from torch.nn import functional as F

TOLERANCE = 1e-4
SEQUENCES = 2


def compare(what, here, there):
    difference = ((here - there).abs().max() / there.pow(2).mean().sqrt()).item()
    good = here.shape == there.shape and difference <= TOLERANCE
    print(f"{what}: {difference:.1e} of the logits' RMS apart{'' if good else ': NOT THE SAME'}", flush=True)
    return good


# ---- EE-LLM ----


def ee_llm_logits(folder, x, store):
    """What its exit makes of the states behind layer L; with an MLP exit, of those before that layer's MLP."""
    arguments = json.loads((folder / "config.json").read_text())["args"]
    tensors = load_file(folder / "exit.safetensors")
    layer, epsilon = arguments["exit_layer_nums"][0], arguments["norm_epsilon"]
    own = {name.split(f"layers.{layer - 1}.")[-1]: value for name, value in tensors.items()}
    if arguments["use_exit_mlp"]:
        n = norm(x, store.source(f"{layer}/mlp_norm"), epsilon)  # its post_attention_norm, which the trunk uses, too
        gate, up = F.linear(n, own["mlp.branch.dense_h_to_4h.weight"], own.get("mlp.branch.dense_h_to_4h.bias")).chunk(2, -1)
        x = x + F.linear(F.silu(gate) * up, own["mlp.branch.dense_4h_to_h.weight"], own.get("mlp.branch.dense_4h_to_h.bias"))
    if arguments["use_exit_norm"]:
        x = norm(x, own["exit_norm.weight"], epsilon)
    output = tensors["language_model.exit_output_layer.0.weight"] if arguments["untie_exit_output_weights"] else store.output
    return F.linear(x, output)


# ---- all of them ----


def check(trial, store, folder):
    name = trial.name
    config = json.loads((trial / "config.json").read_text())
    states = store.tap(config["tap"], "held-out")[:SEQUENCES]
    out = folder / f"{name}.logits"
    subprocess.run(
        [BUILD / "tests/interop/head_logits", store.path, trial / "head.safetensors", str(SEQUENCES), out], check=True
    )
    expected = load_file(out)["logits"]
    offramp("train", "--store", store.path, "--export", trial, "--format", "torch", "--out", folder / "torch" / name)
    good = compare(f"torch {name}", Head.load(folder / "torch" / name, store.output)(states), expected)
    if config["head"] in ("embedding", "norm", "mlp"):
        exported = folder / "ee-llm" / name
        offramp("train", "--store", store.path, "--export", trial, "--format", "ee-llm", "--out", exported)
        good &= compare(f"ee-llm {name}", ee_llm_logits(exported, states, store), expected)
    return good


@torch.no_grad()
def main():
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = make_store(folder)
        run_sweep(path, SWEEP.read_text(), 5, folder / "run")
        store = Store(path, folder, torch.float32)
        for trial in sorted((folder / "run" / "trials").iterdir()):
            if not sys.argv[1:] or any(part in trial.name for part in sys.argv[1:]):
                good &= check(trial, store, folder)
    sys.exit(0 if good else 1)


main()
