"""A run of offramp on the small model of tests/training_model.h, and what its store has, as PyTorch tensors. Imported
before PyTorch: where the Python that starts a script lacks it, this makes an environment under .cache/ (6 GB), and starts
the script there."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("OFFRAMP_CACHE", ROOT / ".cache"))
BUILD = ROOT / os.environ.get("BUILD", "build")
SWEEP = ROOT / "tests/golden/training.yaml"
VENV = CACHE / "venv-torch"
PACKAGES = ["torch==2.13.0", "safetensors==0.8.0", "numpy"]

try:
    import torch
except ImportError:
    if pathlib.Path(sys.prefix) == VENV:
        raise
    if not (VENV / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        (VENV / "complete").touch()
    os.execv(VENV / "bin/python", [VENV / "bin/python", *sys.argv])

from safetensors.torch import load_file


def offramp(program, *arguments):
    done = subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program}: {done.stderr}")


def make_store(folder):
    """Of the small model; its path."""
    made = subprocess.run([BUILD / "tests/interop/training_model", folder], check=True, capture_output=True, text=True)
    offramp(*made.stdout.split(), "--model", folder / "model", "--corpus", folder / "ids.u16", "--out", folder / "store")
    return folder / "store"


def run_sweep(store, text, steps, run):
    """Trains a sweep file's trials for so many steps; what run.json says then."""
    lines = [f"steps: {steps}" if line.startswith("steps:") else line for line in text.splitlines()]
    sweep = run.with_suffix(".yaml")
    sweep.write_text("\n".join(lines) + "\n")
    offramp("train", "--store", store, "--sweep", sweep, "--out", run)
    return json.loads((run / "run.json").read_text())


class Store:
    """What a store has, by `cache export` into `folder`."""

    def __init__(self, path, folder, dtype):
        self.path, self.folder, self.dtype, self.read = path, folder, dtype, {}
        info = subprocess.run([BUILD / "cache", "info", "--json", path], check=True, capture_output=True, text=True)
        self.manifest = json.loads(info.stdout)["model"]
        self.output, self.final_norm = self.source("output"), self.source("final_norm")
        self.tokens = self.export("target", "train")["tokens"].long()

    def export(self, tap, split):
        if (tap, split) not in self.read:
            file = self.folder / f"{tap}.{split}.safetensors"
            offramp("cache", "export", "--tap", tap, "--split", split, "--out", file, self.path)
            self.read[tap, split] = load_file(file)
        return self.read[tap, split]

    def tap(self, name, split="train"):
        """[N, T, H]; of the target u."""
        return self.export(name, split)["states"].to(self.dtype)

    def source(self, name):
        """A tensor of the model."""
        if name not in self.read:
            file = self.folder / f"{name.replace('/', '.')}.safetensors"
            offramp("cache", "export", "--tensor", name, "--out", file, self.path)
            self.read[name] = load_file(file)[name].to(self.dtype)
        return self.read[name]
