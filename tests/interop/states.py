#!/usr/bin/env python3
"""Compares offramp's hidden states with those of Hugging Face transformers in f32, at every tap.

    tests/interop/states.py [--seed N] [--device NAME] [NAME...]

The demo model (OFFRAMP_TEST_MODEL, or fetched) and small random Llama, Mistral, Qwen2 and Qwen3 models made on the
spot. For each: extract --codec raw:f32 at every tap, cache export of every tap, and the largest difference from
transformers as a share of the tap's RMS, which may be 1e-4. NAME: only those models.

The demo model has a few values of up to 600 times the RMS of their tap (massive activations: Sun et al. 2024, arXiv
2402.17762). One unit in the last place of such a value is half the tolerance, and transformers' own f32 result is
further from its f64 result than the tolerance allows. Where that is so, a tap passes when offramp is off from f64 by at
most one and a half times what transformers' f32 is off by; both are printed.

Makes its own virtual environment under .cache/ (6 GB with the torch that pip takes by itself; with
PIP_EXTRA_INDEX_URL set to PyTorch's index of CPU builds much less). Needs the programs in build/.
"""
import argparse
import math
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("OFFRAMP_CACHE", ROOT / ".cache"))
BUILD = ROOT / os.environ.get("BUILD", "build")
VENV = CACHE / "venv-transformers"
PACKAGES = ["torch==2.15.0", "transformers==5.24.0", "gguf==0.19.0", "safetensors==0.8.0", "accelerate", "numpy"]

if pathlib.Path(sys.prefix) != VENV:
    if not (VENV / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        (VENV / "complete").touch()
    os.execv(VENV / "bin/python", [VENV / "bin/python", __file__, *sys.argv[1:]])

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

TOLERANCE = 1e-4  # of the tap's RMS; both sides compute in f32, in different orders
SIZES = dict(vocab_size=512, hidden_size=128, intermediate_size=320, num_hidden_layers=4, num_attention_heads=8,
             max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
CONFIGS = {
    "llama-2": lambda: LlamaConfig(**SIZES, num_key_value_heads=8, rms_norm_eps=1e-5),
    "llama-3": lambda: LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
                                   rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
                                                        low_freq_factor=1.0, high_freq_factor=4.0,
                                                        original_max_position_embeddings=64)),
    "mistral": lambda: MistralConfig(**SIZES, num_key_value_heads=2, head_dim=16, sliding_window=50),
    "qwen2": lambda: Qwen2Config(**SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=30,
                                 max_window_layers=2),
    "qwen3": lambda: Qwen3Config(**SIZES, num_key_value_heads=4, head_dim=32, tie_word_embeddings=True),
}


def demo_model():
    if os.environ.get("OFFRAMP_TEST_MODEL"):
        return pathlib.Path(os.environ["OFFRAMP_TEST_MODEL"])
    setup = subprocess.run([ROOT / "pipelines/setup.sh", "model"], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(setup.stdout.strip())


def random_model(config, seed, folder):
    """Weights large enough that attention prefers some keys, and norms and biases that are not trivial."""
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name:
            value.data = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value.data = 0.3 * noise
        elif "embed" in name:
            value.data = noise
        else:
            value.data = noise * 1.5 / math.sqrt(value.shape[1])
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="200KB")
    return model


@torch.no_grad()
def reference_taps(model, ids):
    """{tap: [N T, H]} of ids [N, T]."""
    taps, hooks = {}, []
    layers = model.model.layers

    def keep(name):
        return lambda value: taps.update({name: (value[0] if isinstance(value, tuple) else value).flatten(0, 1)})

    hooks.append(model.model.embed_tokens.register_forward_hook(lambda m, i, o, k=keep("0"): k(o)))
    for number, layer in enumerate(layers, 1):
        name = "final" if number == len(layers) else str(number)
        hooks.append(layer.post_attention_layernorm.register_forward_pre_hook(
            lambda m, i, k=keep(f"{number}.mid"): k(i[0])))
        hooks.append(layer.register_forward_hook(lambda m, i, o, k=keep(name): k(o)))
    model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return taps


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")


def share(values, expected):
    """The largest difference as a share of the RMS."""
    return float((values - expected).abs().max() / expected.double().pow(2).mean().sqrt())


def compare(name, model, path, corpus, length, folder, device):
    """Prints the worst figures over all taps; true when every tap is within the tolerance."""
    layers = model.config.num_hidden_layers
    names = ["0"] + [tap for number in range(1, layers + 1)
                     for tap in (f"{number}.mid", "final" if number == layers else str(number))]
    store, exported = folder / "store", folder / "tap.safetensors"
    run(BUILD / "extract", "--model", path, "--corpus", *corpus, "--out", store, "--taps", ",".join(names), "--codec",
        "raw:f32", "--seq-len", length, "--tokens", 4 * length, "--held-out", 0, "--device", device)
    expected, failed, worst = None, [], [0.0, 0.0, 0.0]
    for tap in names:
        run(BUILD / "cache", "export", store, "--tap", tap, "--format", "safetensors", "--out", exported)
        file = load_file(exported)
        if expected is None:
            tokens = file["tokens"].long()
            expected = reference_taps(model, tokens[:, :length])
            exact = reference_taps(model.double(), tokens[:, :length])
        own = file["states"].flatten(0, -2)
        off, off_exact, reference = share(own, expected[tap]), share(own, exact[tap]), share(expected[tap], exact[tap])
        if not (off <= TOLERANCE or (reference > TOLERANCE / 2 and off_exact <= max(TOLERANCE, 1.5 * reference))):
            failed.append(f"{tap} ({off:.1e}; from f64 {off_exact:.1e}, transformers {reference:.1e})")
        worst = [max(pair) for pair in zip(worst, (off, off_exact, reference))]
        exported.unlink()
    print(f"{'FAILED' if failed else 'ok':6} {name:8} {len(names)} taps, {tokens.shape[0]} x {length} tokens: off by at most "
          f"{worst[0]:.1e} of the RMS; from f64 {worst[1]:.1e}, transformers {worst[2]:.1e}", flush=True)
    for line in failed:
        print(f"       tap {line}", flush=True)
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"demo, {', '.join(CONFIGS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    names = arguments.names or ["demo", *CONFIGS]
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            if name == "demo":
                path = demo_model()
                model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32,
                                                             attn_implementation="eager").eval()
                corpus, length = sorted(ROOT.glob("kernels/*.h")), 256
            else:
                path, length = folder / "model", 128
                model = random_model(CONFIGS[name](), arguments.seed, path)
                ids = np.random.default_rng(arguments.seed).integers(3, 512, 5 * length + 1)
                corpus = [folder / "tokens.u16"]
                ids.astype("<u2").tofile(corpus[0])
            failed += not compare(name, model, path, corpus, length, folder, arguments.device)
    print(f"{len(names) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
