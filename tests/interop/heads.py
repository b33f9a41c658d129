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


def turn(x, model):
    """Rotary positions 0, 1, ... of x [..., T, heads, D]."""
    assert model["rope_scaling"] == "none" and model["window"] == 0
    half = model["head_size"] // 2
    angles = torch.outer(
        torch.arange(x.shape[-3], dtype=torch.float64),
        model["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half),
    )
    cos, sin = (part.to(x.dtype)[:, None, :] for part in (angles.cos(), angles.sin()))
    if model["rope_pairs"] == "halves":
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)


class Head(torch.nn.Module):
    @classmethod
    def load(cls, folder, output, dtype=torch.float32):
        folder = pathlib.Path(folder)
        return cls(json.loads((folder / "config.json").read_text()), load_file(folder / "head.safetensors"), output, dtype)

    def __init__(self, config, tensors, output, dtype):
        super().__init__()
        self.config, self.epsilon = config, config["model"]["norm_epsilon"]
        self.tied = output.to(dtype)
        self.tensor = torch.nn.ParameterDict(
            {self.key(name): torch.nn.Parameter(value.to(dtype), self.is_trained(name)) for name, value in tensors.items()}
        )

    @staticmethod
    def key(name):
        return name.replace(".", "/")  # PyTorch has no dots in names

    def is_trained(self, name):
        """A kind's frozen tensors: what training leaves as they are."""
        if self.config["kind"] == "mlp":
            return name != "mlp_norm"
        return not (self.config.get("frozen") and "." in name)

    def linear(self, x, weight, bias):
        own = self.tensor
        return F.linear(x, own[weight], own[bias] if bias in own else None)

    def norm(self, x, name):
        return norm(x, self.tensor[name], self.epsilon)

    def map(self, x):
        own = self.tensor
        return (x + x @ own["u"] @ own["v"] if "u" in own else x @ own["a"]) + own["b"]

    def mlp(self, x, before="", names="mlp_"):
        n = self.norm(x, before + "mlp_norm")
        gate, up = (self.linear(n, f"{before}{names}{part}", f"{before}{part}_bias") for part in ("gate", "up"))
        return x + self.linear(F.silu(gate) * up, f"{before}{names}down", before + "down_bias")

    def attention(self, x, before=""):
        model, n = self.config["model"], self.norm(x, before + "attention_norm")
        q, k, v = (
            self.linear(n, before + part, f"{before}{part}_bias").unflatten(-1, (-1, model["head_size"])) for part in "qkv"
        )
        if model["head_norms"]:
            q, k = self.norm(q, before + "q_norm"), self.norm(k, before + "k_norm")
        q, k = turn(q, model), turn(k, model)
        k, v = (part.repeat_interleave(model["heads"] // model["kv_heads"], -2) for part in (k, v))
        q, k, v = (part.transpose(-3, -2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.linear(attended.transpose(-3, -2).flatten(-2), before + "o", before + "o_bias")

    def hidden(self, x):
        """What the output weight is multiplied with; x [..., T, H], whole sequences."""
        kind = self.config["kind"]
        if kind in ("affine", "affine+mlp", "bridge"):
            x = self.map(x)
        if kind == "affine+mlp":
            x = self.mlp(x)
        elif kind == "mlp":
            x = self.mlp(x, names="")
        elif kind == "block":
            x = self.mlp(self.attention(x))
        elif kind == "bridge":
            for layer in range(self.config["to"] + 1, self.config["model"]["layers"] + 1):
                x = self.mlp(self.attention(x, f"{layer}/"), f"{layer}/")
        return x if kind == "embedding" else self.norm(x, "scale")

    def forward(self, x):
        return F.linear(self.hidden(x), self.tensor["output"] if "output" in self.tensor else self.tied)
