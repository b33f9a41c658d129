"""Exit heads as PyTorch modules, by docs/formats.md alone.

    head = Head.load(folder, output)        folder: of train --export --format torch; output: the model's output weight
    logits = head(states)                   [..., T, H] -> [..., T, V]
"""

import json
import pathlib

import torch
from safetensors.torch import load_file
from torch.nn import functional as F


def norm(x, scale, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * scale


class Head(torch.nn.Module):
    FROZEN = ("mlp_norm",)  # a kind's tensors that training leaves as they are

    @classmethod
    def load(cls, folder, output, dtype=torch.float32):
        folder = pathlib.Path(folder)
        return cls(json.loads((folder / "config.json").read_text()), load_file(folder / "head.safetensors"), output, dtype)

    def __init__(self, config, tensors, output, dtype):
        super().__init__()
        self.config, self.epsilon = config, config["model"]["norm_epsilon"]
        self.tied = output.to(dtype)
        self.tensor = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(value.to(dtype), name not in self.FROZEN) for name, value in tensors.items()}
        )

    def linear(self, x, name):
        bias = name + "_bias"
        return F.linear(x, self.tensor[name], self.tensor[bias] if bias in self.tensor else None)

    def hidden(self, x):
        """What the output weight is multiplied with."""
        own = self.tensor
        if self.config["kind"] == "affine":
            x = x @ own["a"] + own["b"]
        elif self.config["kind"] == "mlp":
            n = norm(x, own["mlp_norm"], self.epsilon)
            x = x + self.linear(F.silu(self.linear(n, "gate")) * self.linear(n, "up"), "down")
        return norm(x, own["scale"], self.epsilon)

    def forward(self, x):
        return F.linear(self.hidden(x), self.tensor["output"] if "output" in self.tensor else self.tied)
