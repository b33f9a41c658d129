"""Reads what offramp writes by docs/formats.md alone, with Python's own library, and computes it anew: a model's
fingerprint, the head's losses of a leaderboard, the policy's hashes and the table of what its exits would do.

    formats.py run RUN FOLDER      FOLDER: TAP.safetensors of the run's taps, final and target, held-out sequences only,
                                   and model.safetensors with output and final_norm
    formats.py fingerprint MODEL INFO.json    a folder of Hugging Face's llama, and what `cache info --json` says
    formats.py export MODEL TRIAL TORCH [EE_LLM]    model.safetensors with the model's output, a trial's folder, and those of
                                   its exports
"""

import ctypes
import json
import math
import os
import struct
import sys


# ---- safetensors ----

def read_tensors(path):
    """Metadata, and {name: (shape, flat list)}."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = (entry["shape"], numbers(entry["dtype"], data[begin:end]))
    return header.get("__metadata__", {}), tensors


def numbers(dtype, data):
    if dtype == "BF16":
        halves = struct.unpack(f"<{len(data) // 2}H", data)
        return struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))
    letter = {"F32": "f", "F16": "e", "I32": "i"}[dtype]
    return struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data)


def rows_of(tensor):
    shape, values = tensor
    width = shape[-1]
    return [values[i:i + width] for i in range(0, len(values), width)]


# ---- what heads compute ----

def product(x, weight):
    """x W^T"""
    return [sum(a * b for a, b in zip(x, row)) for row in weight]


def norm(x, scale, epsilon):
    factor = 1 / math.sqrt(sum(v * v for v in x) / len(x) + epsilon)
    return [s * v * factor for s, v in zip(scale, x)]


def silu(z):
    return z / (1 + math.exp(-z))


class Head:
    def __init__(self, path, tied):
        self.facts, tensors = read_tensors(path)
        self.vector = {name: values for name, (shape, values) in tensors.items() if len(shape) == 1}
        self.matrix = {name: rows_of(tensor) for name, tensor in tensors.items() if len(tensor[0]) == 2}
        self.epsilon = float(self.facts["norm_epsilon"])
        self.output = self.matrix["output"] if self.facts["output"] == "untied" else tied
        if "a" in self.matrix:
            self.columns = list(zip(*self.matrix["a"]))

    def biased(self, values, name):
        return [v + b for v, b in zip(values, self.vector[name])] if name in self.vector else values

    def hidden(self, x):
        kind = self.facts["kind"]
        if kind == "affine":
            x = self.biased(product(x, self.columns), "b")
        elif kind == "mlp":
            n = norm(x, self.vector["mlp_norm"], self.epsilon)
            gate = self.biased(product(n, self.matrix["gate"]), "gate_bias")
            up = self.biased(product(n, self.matrix["up"]), "up_bias")
            inner = [silu(g) * u for g, u in zip(gate, up)]
            down = self.biased(product(inner, self.matrix["down"]), "down_bias")
            x = [a + b for a, b in zip(x, down)]
        return norm(x, self.vector["scale"], self.epsilon)


def log_sum_exp(logits):
    most = max(logits)
    return most + math.log(sum(math.exp(z - most) for z in logits))


# ---- a run ----

class Split:
    """The held-out sequences: labels, and the full model's probabilities of what comes next."""

    def __init__(self, folder, epsilon):
        _, model = read_tensors(os.path.join(folder, "model.safetensors"))
        _, final = read_tensors(os.path.join(folder, "final.safetensors"))
        _, self.target = read_tensors(os.path.join(folder, "target.safetensors"))
        self.folder = folder
        self.output = rows_of(model["output"])
        self.labels = [label for ids in rows_of(final["tokens"]) for label in ids[1:]]
        assert set(final["split"][1]) == {1}
        scale = model["final_norm"][1]
        self.full = [product(norm(x, scale, epsilon), self.output) for x in rows_of(final["states"])]
        self.u = rows_of(self.target["states"])

    def states(self, tap):
        return rows_of(read_tensors(os.path.join(self.folder, tap + ".safetensors"))[1]["states"])


def evaluate(head, split):
    """Means of the loss, the divergence from the full model, and the agreement with it."""
    loss = kl = agreement = 0
    top, entropy = split.target["top"][1], split.target["entropy"][1]
    for row, x in enumerate(split.states(head.facts["tap"])):
        h = head.hidden(x)
        z = product(h, head.output)
        lse = log_sum_exp(z)
        loss += lse - z[split.labels[row]]
        agreement += z.index(max(z)) == top[row]
        if head.facts["output"] == "tied":
            kl += lse - sum(a * b for a, b in zip(h, split.u[row])) - entropy[row]
        else:
            full = split.full[row]
            total = log_sum_exp(full)
            kl += sum(math.exp(f - total) * (f - total - z[v] + lse) for v, f in enumerate(full))
    count = len(split.labels)
    return loss / count, kl / count, agreement / count


def agree(what, here, there, tolerance):
    good = abs(here - there) <= tolerance
    print(f"{what}: {here:.6f} here, {there:.6f} there{'' if good else ': NOT THE SAME'}")
    return good


def check_board(run, split):
    with open(os.path.join(run, "leaderboard.tsv")) as file:
        names, *lines = (line.rstrip("\n").split("\t") for line in file)
    good = bool(lines)
    for line in lines:
        row = dict(zip(names, line))
        head = Head(os.path.join(run, "trials", row["trial"], "head.safetensors"), split.output)
        assert (head.facts["kind"], head.facts["output"], head.facts["tap"]) == (row["head"], row["output"], row["tap"])
        loss, kl, agreement = evaluate(head, split)
        good &= agree(row["trial"] + " held_out_loss", loss, float(row["held_out_loss"]), 2e-5)
        good &= agree(row["trial"] + " kl", kl, float(row["kl"]), 2e-5)
        good &= agree(row["trial"] + " agreement", agreement, float(row["agreement"]), 1.5 / len(split.labels))
        good &= last_evaluation(run, row)
    return good


def last_evaluation(run, row):
    with open(os.path.join(run, "trials", row["trial"], "metrics.jsonl")) as file:
        points = [json.loads(line) for line in file]
    last = [point for point in points if "held_out_loss" in point and point["step"] == int(row["head_step"])][-1]
    return agree(row["trial"] + " in metrics.jsonl", last["held_out_loss"], float(row["held_out_loss"]), 2e-6)


def check_target(split):
    """Its columns are of the model's own states, which the file has as bf16."""
    loss = entropy = 0
    for row, logits in enumerate(split.full):
        lse = log_sum_exp(logits)
        loss += lse - logits[split.labels[row]]
        entropy += lse - sum(math.exp(z - lse) * z for z in logits)
    count = len(split.labels)
    return agree("target loss", loss / count, sum(split.target["loss"][1]) / count, 2e-3) & agree(
        "target entropy", entropy / count, sum(split.target["entropy"][1]) / count, 2e-3)


def check_best(split):
    """The best tokens of a row are those with the largest probabilities: they and the same number here have the same sum."""
    best, probability = rows_of(split.target["best"]), rows_of(split.target["best_probability"])
    good, told, theirs, largest = True, 0, 0, 0
    for row, logits in enumerate(split.full):
        lse = log_sum_exp(logits)
        q = [math.exp(z - lse) for z in logits]
        good &= best[row][0] == split.target["top"][1][row] and len(set(best[row])) == len(best[row])
        good &= abs(probability[row][0] - split.target["probability"][1][row]) < 1e-3
        good &= list(probability[row]) == sorted(probability[row], reverse=True)
        told += sum(probability[row])
        theirs += sum(q[token] for token in best[row])
        largest += sum(sorted(q, reverse=True)[:len(best[row])])
    count = len(split.labels)
    if not good:
        print("best tokens: do not begin with top, or are not in order: NOT THE SAME")
    return good & agree("best_probability", theirs / count, told / count, 1e-3) & agree(
        "probability of the best tokens", largest / count, theirs / count, 1e-3)


def check_run(run, folder):
    with open(os.path.join(run, "run.json")) as file:
        facts = json.load(file)
    with open(os.path.join(run, "policy", "policy.json")) as file:
        policy = json.load(file)
    first = os.path.join(run, "trials", facts["result"]["trials"][0], "head.safetensors")
    split = Split(folder, float(read_tensors(first)[0]["norm_epsilon"]))
    good = agree("full_loss", sum(split.target["loss"][1]) / len(split.labels), facts["full_loss"], 2e-5)
    good &= policy["version"] == 2 and policy["model"] == facts["model"]
    return good & check_policy(os.path.join(run, "policy"), policy, split) & check_target(
        split) & check_best(split) & check_board(run, split)


# ---- a policy ----

def look(head, split):
    """Of each held-out token: the head's confidence, and whether its likeliest token is the full model's."""
    seen = []
    for x, top in zip(split.states(head.facts["tap"]), split.target["top"][1]):
        z = product(head.hidden(x), head.output)
        seen.append((math.exp(max(z) - log_sum_exp(z)), z.index(max(z)) == top))
    return seen


def check_row(row, exits, taps, layers):
    """What leaves where, when every exit's threshold is this row's; a token may be on the threshold's other side here."""
    left, agreeing, depth = [0] * len(exits), 0, 0
    count = len(exits[0])
    for seen in zip(*exits):
        at = next((e for e, (confidence, _) in enumerate(seen) if confidence >= row["threshold"]), None)
        if at is not None:
            left[at] += 1
            agreeing += seen[at][1]
        depth += layers if at is None else taps[at]
    name, close = f"threshold {row['threshold']}", 1.5 / count
    good = all([agree(f"{name} exit {e + 1}", left[e] / count, rate, close) for e, rate in enumerate(row["exit_rates"])])
    if row["agreement"] is None:
        return good and sum(left) <= 1
    return (good & agree(name + " agreement", agreeing / sum(left), row["agreement"], 1.5 / sum(left)) &
            agree(name + " depth", depth / count, row["depth"], close * layers))


def check_policy(folder, policy, split):
    exits = []
    good = bool(policy["exits"]) and bool(policy["table"])
    for entry in policy["exits"]:
        path = os.path.join(folder, entry["head"]["file"])
        with open(path, "rb") as file:
            found = f"{xxh3(file.read(), 0):016x}"
        print(f"{path}: hash {found} here, {entry['head']['hash']} there")
        head = Head(path, split.output)
        assert [head.facts[name] for name in ("kind", "output")] == [entry["head"][name] for name in ("kind", "output")]
        good &= found == entry["head"]["hash"] and head.facts["tap"] == entry["tap"]
        good &= entry["evidence"] == {"kind": "confidence"} and any(
            row["threshold"] == entry["rule"]["threshold"] for row in policy["table"])
        exits.append(look(head, split))
    taps = [float(entry["tap"]) for entry in policy["exits"]]
    return good & all([check_row(row, exits, taps, policy["layers"]) for row in policy["table"]])


# ---- fingerprints ----

def xxh3(data, seed):
    function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return function(data, len(data), seed)


def as_json(value):
    """A member of the config, as it is hashed."""
    if isinstance(value, float):
        single = struct.unpack("<f", struct.pack("<f", value))[0]
        text = f"{single:.17g}"
        mantissa, mark, exponent = text.partition("e")
        if mark:
            return f"{mantissa}e{int(exponent)}"
        return text if "." in text else text + ".0"
    if isinstance(value, list):
        return "[" + ",".join(as_json(item) for item in value) + "]"
    return json.dumps(value)


GLOBAL = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
LAYER = ["input_layernorm.weight"] + [f"self_attn.{name}_proj.weight" for name in "qkvo"] + [
    f"self_attn.{name}_proj.bias" for name in "qkvo"] + [
    "self_attn.q_norm.weight", "self_attn.k_norm.weight", "post_attention_layernorm.weight"] + [
    f"mlp.{name}_proj.{part}" for part in ("weight", "bias") for name in ("gate", "up", "down")]


def fingerprint(folder, config):
    members = ",".join(f"{json.dumps(key)}:{as_json(value)}" for key, value in config.items())
    result = xxh3(("{" + members + "}").encode(), 0)
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        data = file.read()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    names = list(GLOBAL)
    for layer in range(config["layers"]):
        names += [f"model.layers.{layer}.{name}" for name in LAYER]
    for name in names:
        if name in header and not (name == "lm_head.weight" and config["tied"]):
            begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
            result = xxh3(data[begin:end], result)
    return f"{result:016x}"


def check_fingerprint(folder, info):
    with open(info) as file:
        model = json.load(file)["model"]
    config = {key: value for key, value in model.items() if key not in ("name", "fingerprint")}
    found = fingerprint(folder, config)
    print(f"fingerprint {found} here, {model['fingerprint']} there")
    return found == model["fingerprint"]


# ---- exports ----

def read_config(folder):
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file)


def check_torch(trial, folder):
    """The head's file is the trial's, and config.json says what is in it."""
    files = [os.path.join(path, "head.safetensors") for path in (trial, folder)]
    (facts, tensors), config = read_tensors(files[1]), read_config(folder)
    model = config["model"]
    good = open(files[0], "rb").read() == open(files[1], "rb").read()
    good &= all(config[name] == facts[name] for name in ("kind", "output", "tap", "offramp"))
    good &= all(model[name] == int(facts[name]) for name in ("layers", "hidden", "intermediate", "vocab"))
    good &= abs(model["norm_epsilon"] / float(facts["norm_epsilon"]) - 1) < 1e-6 and config["fingerprint"] == facts["model"]
    good &= config["tensors"] == {name: shape for name, (shape, _) in tensors.items()}
    print(f"{folder}: {'good' if good else 'NOT WHAT docs/formats.md SAYS'}")
    return good


EE_MLP = {
    "mlp.branch.dense_h_to_4h.weight": ("gate", "up"),
    "mlp.branch.dense_h_to_4h.bias": ("gate_bias", "up_bias"),
    "mlp.branch.dense_4h_to_h.weight": ("down",),
    "mlp.branch.dense_4h_to_h.bias": ("down_bias",),
}


def check_ee_llm(model, trial, folder, tied):
    """Each tensor has the values of the head's parameters, one behind the other. tied: the model's output is its embedding."""
    facts, tensors = read_tensors(os.path.join(trial, "head.safetensors"))
    if not tied and "output" not in tensors:
        tensors["output"] = read_tensors(model)[1]["output"]
    _, exported = read_tensors(os.path.join(folder, "exit.safetensors"))
    layer = int(facts["tap"].split(".")[0])
    parts = dict(EE_MLP) if facts["kind"] == "mlp" else {}
    parts |= {} if facts["kind"] == "embedding" else {"exit_norm.weight": ("scale",)}
    wanted = {f"language_model.encoder.layers.{layer - 1}.{name}": names for name, names in parts.items()}
    wanted["language_model.exit_output_layer.0.weight"] = ("output",)
    wanted = {name: names for name, names in wanted.items() if all(part in tensors for part in names)}
    good = set(wanted) == set(exported) and read_config(folder)["args"]["exit_layer_nums"] == [layer]
    for name, names in wanted.items():
        values = [value for part in names for value in tensors[part][1]]
        rows = sum(tensors[part][0][0] for part in names)
        good &= name in exported and exported[name] == ([rows] + tensors[names[0]][0][1:], tuple(values))
    print(f"{folder}: {'good' if good else 'NOT WHAT docs/formats.md SAYS'}: {', '.join(sorted(exported))}")
    return good


def check_exports(model, trial, torch, ee_llm=None):
    tied = read_config(torch)["model"]["tied"]
    return check_torch(trial, torch) & (ee_llm is None or check_ee_llm(model, trial, ee_llm, tied))


def main():
    check = {"run": check_run, "fingerprint": check_fingerprint, "export": check_exports}[sys.argv[1]]
    sys.exit(0 if check(*sys.argv[2:]) else 1)


main()
