#!/usr/bin/env python3
"""Loads what `train --export` writes, each format in its own software, and compares the logits with offramp's: at most 1e-4
of their RMS apart.

    tests/interop/exports.py [TRIAL...] | --eagle3 STORE TRIAL

The trials are those of tests/golden/training.yaml, on the small model of tests/training_model.h. TRIAL: only those whose
names contain it.

torch     heads.py
eagle3    `speculators` 0.9.0, whose Eagle3DraftModel makes the steps: another environment of 5 GB. --eagle3 STORE TRIAL
          compares this draft alone, and needs it
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
from heads import Head, norm, turn
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

TOLERANCE = 1e-4
SEQUENCES = 2


def compare(what, here, there):
    difference = ((here - there).abs().max() / there.pow(2).mean().sqrt()).item()
    good = here.shape == there.shape and difference <= TOLERANCE
    print(f"{what}: {difference:.1e} of the logits' RMS apart{'' if good else ': NOT THE SAME'}", flush=True)
    return good


# ---- EE-LLM ----


def ee_llm_block(x, own, arguments, model):
    """Its exit_block, a ParallelTransformerLayer of Megatron-LM: of each key head the queries' rows, its own, the values'."""
    groups, size, epsilon = arguments["num_query_groups"], arguments["kv_channels"], arguments["norm_epsilon"]
    together = arguments["num_attention_heads"] // groups
    n = norm(x, own["input_norm.weight"], epsilon)
    mixed = F.linear(n, own["self_attention.query_key_value.weight"], own.get("self_attention.query_key_value.bias"))
    q, k, v = mixed.unflatten(-1, (groups, together + 2, size)).split([together, 1, 1], -2)
    q, k = (turn(part.flatten(-3, -2), model | {"rope_pairs": "halves"}) for part in (q, k))
    k, v = (part.repeat_interleave(together, -2) for part in (k, v.flatten(-3, -2)))
    attended = F.scaled_dot_product_attention(*(part.transpose(-3, -2) for part in (q, k, v)), is_causal=True)
    attended = attended.transpose(-3, -2).flatten(-2)
    x = x + F.linear(attended, own["self_attention.dense.weight"], own.get("self_attention.dense.bias"))
    n = norm(x, own["post_attention_norm.weight"], epsilon)
    gate, up = F.linear(n, own["mlp.dense_h_to_4h.weight"], own.get("mlp.dense_h_to_4h.bias")).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, own["mlp.dense_4h_to_h.weight"], own.get("mlp.dense_4h_to_h.bias"))


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
    if arguments["use_exit_block"]:
        block = {name.removeprefix("exit_block."): value for name, value in own.items()}
        x = ee_llm_block(x, block, arguments, store.manifest)
    if arguments["use_exit_norm"]:
        x = norm(x, own["exit_norm.weight"], epsilon)
    output = tensors["language_model.exit_output_layer.0.weight"] if arguments["untie_exit_output_weights"] else store.output
    return F.linear(x, output)


# ---- speculators ----


def speculators_logits(folder, states, tokens):
    """[STEPS, T, D] of one sequence: states [T, 3 H] of the taps, tokens [T] that follow them."""
    from speculators import SpeculatorModelConfig
    from speculators.models.eagle3 import Eagle3DraftModel

    config = SpeculatorModelConfig.from_pretrained(folder)
    config.transformer_layer_config._attn_implementation = "eager"
    model = Eagle3DraftModel.from_pretrained(folder, config=config).float().eval()
    steps = []
    model.lm_head.register_forward_hook(lambda module, given, logits: steps.append(logits[0]))
    model(states[None], tokens[None], torch.zeros_like(tokens)[None], ttt_steps=3)
    return torch.stack(steps)


def check_eagle3(path, trial):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        store, config = Store(path, folder, torch.float32), json.loads((trial / "config.json").read_text())
        model = folder / "model"  # what speculators looks up there: how many layers it has, and what training would need
        model.mkdir()
        facts = {"model_type": "llama", "num_hidden_layers": store.manifest["layers"], "hidden_size": store.output.shape[1]}
        (model / "config.json").write_text(json.dumps(facts))
        weights = {"embed_tokens": store.output, "lm_head": store.output.clone(), "norm": store.final_norm}
        save_file({f"model.{name}.weight": value for name, value in weights.items()}, model / "model.safetensors")
        exported, out = folder / "eagle3", folder / "logits"
        export = ("train", "--store", path, "--export", trial, "--format", "eagle3", "--model", model, "--out", exported)
        offramp(*export)
        subprocess.run([BUILD / "tests/interop/head_logits", path, trial / "head.safetensors", "1", out], check=True)
        taps = [store.tap(tap, "held-out")[0] for tap in config["tap"].split("+")]
        tokens = store.export("target", "held-out")["tokens"][0, 1:].long()
        here, there = speculators_logits(exported, torch.cat(taps, -1), tokens), load_file(out)["logits"][0]
        return all(
            [compare(f"eagle3 step {step}", here[step, : -1 - step], there[step, : -1 - step]) for step in range(3)]
        )


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
    if config["head"] in ("embedding", "norm", "mlp", "block"):
        exported = folder / "ee-llm" / name
        offramp("train", "--store", store.path, "--export", trial, "--format", "ee-llm", "--out", exported)
        good &= compare(f"ee-llm {name}", ee_llm_logits(exported, states, store), expected)
    return good


@torch.no_grad()
def main():
    good = True
    if sys.argv[1:2] == ["--eagle3"]:
        sys.exit(0 if check_eagle3(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])) else 1)
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
