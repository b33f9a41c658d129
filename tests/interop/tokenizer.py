#!/usr/bin/env python3
"""Compares offramp's tokenizer with Hugging Face `tokenizers`: the same ids for every line, and the same bytes back.

    tests/interop/tokenizer.py [--size CHARACTERS] [--golden]

The demo model (OFFRAMP_TEST_MODEL, or fetched), and tokenizers trained on the spot in the manner of GPT-2, Llama 3,
Qwen2, Mistral NeMo, SmolLM2 and of what else the steps of tokenizer.json allow; those that have a name in GGUF also as
GGUF files. About 15 minutes on 2 cores.
Makes its own virtual environment under .cache/. --golden rewrites tests/golden/tokenizer.jsonl.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from array import array

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("OFFRAMP_CACHE", ROOT / ".cache"))
VENV = CACHE / "venv-tokenizers"
PACKAGES = ["tokenizers==0.23.3", "gguf==0.19.0"]

if pathlib.Path(sys.prefix) != VENV:
    if not (VENV / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run(
            [VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True
        )
        (VENV / "complete").touch()
    os.execv(VENV / "bin/python", [VENV / "bin/python", __file__, *sys.argv[1:]])

import gguf
import tokenizer_corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as steps

DRIVER = ROOT / os.environ.get("BUILD", "build") / "tests/interop/tokenize"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(regex=False, prefix=False):
    return steps.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def split(pattern, behavior="isolated", invert=False, literal=False):
    return steps.Split(pattern if literal else Regex(pattern), behavior, invert)


# name: (pre-tokenizer steps, what else, name in GGUF or None)
CONFIGS = {
    "gpt-2": ([byte_level(True)], {}, "gpt-2"),
    "smollm": ([steps.Digits(True), byte_level(True)], {"alphabet": False}, "smollm"),
    "llama3": ([split(LLAMA3), byte_level()], {"ignore_merges": True}, "llama-bpe"),
    "qwen2": ([split(QWEN2), byte_level()], {"compose": True, "text_merges": True}, "qwen2"),
    "nemo": ([split(TEKKEN), byte_level()], {"ignore_merges": True}, "tekken"),
    "deepseek": (
        [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level()],
        {},
        None,
    ),
    "deepseek-llm": (
        [
            split("[\r\n]"),
            split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶ-ͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ]+"),
            split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            split(r"\s+$"),
            split("[一-龥ࠀ-一가-퟿]+"),
            steps.Digits(True),
            byte_level(),
        ],
        {},
        None,
    ),
    "o200k": (
        [
            split(
                TEKKEN.replace("|\\p{N}|", "|\\p{N}{1,3}|").replace(
                    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                ),
                "removed",
                True,
            ),
            byte_level(),
        ],
        {},
        None,
    ),
    "prefix": ([byte_level(True, True)], {"unknown": True, "alphabet": False}, None),
    "fused": (
        [steps.Digits(False), byte_level(True)],
        {"unknown": True, "fuse": True, "alphabet": False},
        None,
    ),
    "previous": ([split(r"\s+", "merged_with_previous"), byte_level()], {}, None),
    "next": (
        [split(" ", "merged_with_next", literal=True), split(r"[aeiou]", "contiguous"), byte_level()],
        {},
        None,
    ),
    "removed": (
        [split(r"\p{P}", "removed"), split(r"(?=\p{Lu})|(?<=\d\d)".replace(r"\d", "[0-9]")), byte_level()],
        {},
        None,
    ),
}


def train(name, sample):
    """A tokenizer of that configuration. Some merges are taken out again, so that not every token is reached by them."""
    row, options, _ = CONFIGS[name]
    unknown = {"unk_token": "<unk>", "fuse_unk": bool(options.get("fuse"))} if options.get("unknown") else {}
    tokenizer = Tokenizer(models.BPE(**unknown))
    tokenizer.pre_tokenizer = row[0] if len(row) == 1 else steps.Sequence(row)
    tokenizer.decoder = decoders.ByteLevel()
    if options.get("compose"):
        tokenizer.normalizer = normalizers.NFC()
    alphabet = steps.ByteLevel.alphabet() if options.get("alphabet", True) else []
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (["<unk>"] if unknown else [])
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    tokenizer.add_tokens(
        [
            AddedToken("<a>", normalized=False),
            AddedToken("<a>b", normalized=False),
            AddedToken("<tag>", normalized=False, lstrip=True),
            AddedToken("user", normalized=True),
            AddedToken("e\u0301\u0301", normalized=True),
            AddedToken("日本", normalized=False, rstrip=True),
            AddedToken("     ", normalized=False),
        ]
    )
    data = json.loads(tokenizer.to_str())
    rng = random.Random(4)
    data["model"]["merges"] = [m for m in data["model"]["merges"] if rng.random() > 0.02]
    data["model"]["ignore_merges"] = bool(options.get("ignore_merges"))
    if options.get("text_merges"):
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return data


def for_gguf(data):
    """Without the added tokens that GGUF cannot describe."""
    vocab = data["model"]["vocab"]
    kept = [t for t in data["added_tokens"] if not (t["normalized"] or t["lstrip"] or t["rstrip"])]
    new = [t for t in kept if t["content"] not in vocab]
    kept = [
        {**t, "id": vocab[t["content"]] if t["content"] in vocab else len(vocab) + new.index(t)} for t in kept
    ]
    return {**data, "added_tokens": kept}


def write_gguf(data, name, path):
    """The same tokenizer as a GGUF file without tensors."""
    kinds = {t["content"]: 3 if t["special"] else 4 for t in data["added_tokens"]}
    tokens = dict(data["model"]["vocab"]) | {t["content"]: t["id"] for t in data["added_tokens"]}
    tokens = sorted(tokens, key=tokens.get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(t, 1) for t in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def demo_model():
    path = os.environ.get("OFFRAMP_TEST_MODEL")
    return (
        path
        or subprocess.run(
            [ROOT / "pipelines/setup.sh", "model"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )


def demo_tokenizer(path):
    """The demo model's tokenizer as its tokenizer.json has it: vocabulary and merges from the GGUF file, the rest known."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = steps.Sequence([steps.Digits(True), byte_level(True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3]
    )
    return json.loads(tokenizer.to_str())


def run_driver(model, *arguments, records=()):
    data = b"".join(struct.pack("<I", len(r)) + r for r in records)
    done = subprocess.run([DRIVER, model, *arguments], input=data, capture_output=True)
    if done.returncode:
        sys.exit(f"{DRIVER} {model}: {done.stderr.decode()}")
    return done.stdout.decode().split("\n")[:-1], done.stderr.decode()


def compare(title, model, tokenizer, records, plain=False):
    """Ids and bytes of every record; the number of records that differ."""
    texts = [r.decode("utf-8", "replace") for r in records]
    tokenizer.encode_special_tokens = plain
    expected = []
    for at in range(0, len(texts), 10_000):  # an encoding takes some hundred bytes a token
        batch = tokenizer.encode_batch_fast(texts[at : at + 10_000], add_special_tokens=False)
        expected += [array("i", encoding.ids) for encoding in batch]
    rows, log = run_driver(model, "encode", *(["plain"] if plain else []), records=records)
    ours = [array("i", map(int, row.split())) for row in rows]
    table = [bytes.fromhex(row) for row in run_driver(model, "bytes")[0]]
    normalize = tokenizer.normalizer.normalize_str if tokenizer.normalizer else lambda text: text
    wrong = lossless = 0
    for text, want, got in zip(texts, expected, ours, strict=True):
        data = b"".join(table[i] for i in got)
        lossless += data == normalize(text).encode()
        # A composed added token is written back as it stands in the file, by both.
        if got != want or data.decode("utf-8", "replace") != tokenizer.decode(
            list(want), skip_special_tokens=False
        ):
            wrong += 1
            if wrong <= 3:
                print(f"  {title}: {text!r}\n    ours {list(got[:40])}\n    theirs {list(want[:40])}")
    rate = log.split(" tokens, ")[-1].split(" in")[0]
    print(
        f"{title:<34} {len(records):>7} lines {sum(map(len, records)) / 1e6:>6.1f} MB {wrong:>4} differ"
        f"  {lossless:>7} give their bytes back  {rate:>10}",
        flush=True,
    )
    return wrong


def write_golden(tokenizer, path):
    rng = random.Random(5)
    lines = [line for line in tokenizer_corpus.stress() if len(line) < 80]
    natural = [line for line in tokenizer_corpus.natural(CACHE, 2_000_000) if 20 < len(line) < 200]
    chosen = rng.sample(lines, 150) + rng.sample(natural, 60)
    with open(path, "w") as file:
        for line in chosen:
            file.write(json.dumps({"text": line, "ids": tokenizer.encode(line).ids}, ensure_ascii=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=8_000_000, help="characters of natural text (8 million)")
    parser.add_argument("--only", default="", help="configurations whose name has this in it")
    parser.add_argument("--golden", action="store_true", help="rewrite tests/golden/tokenizer.jsonl and stop")
    options = parser.parse_args()
    model = demo_model()
    demo = demo_tokenizer(model)
    if options.golden:
        write_golden(Tokenizer.from_str(json.dumps(demo)), ROOT / "tests/golden/tokenizer.jsonl")
        return 0
    subprocess.run(["make", "-s", "-C", ROOT, DRIVER.relative_to(ROOT)], check=True)
    kinds = tokenizer_corpus.corpus(CACHE, options.size)
    broken = list(tokenizer_corpus.broken())
    lines = [line for kind in kinds.values() for line in kind]
    records = [line.encode() for line in lines] + broken
    print(", ".join(f"{len(kind)} {name}" for name, kind in kinds.items()), f"and {len(broken)} broken lines")
    wrong = total = 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tokenizer-", dir=CACHE))

    def check(title, path, tokenizer, chosen, plain=False):
        nonlocal wrong, total
        wrong += compare(title, path, tokenizer, chosen, plain)
        total += len(chosen)

    if options.only in "demo":
        tokenizer = Tokenizer.from_str(json.dumps(demo))
        (folder / "tokenizer.json").write_text(json.dumps(demo))
        check("demo model, natural text", model, tokenizer, [line.encode() for line in kinds["natural"]])
        check("demo model", model, tokenizer, records)
        check("demo model, plain", model, tokenizer, records, plain=True)
        check("demo model as tokenizer.json", folder, tokenizer, records)
    sample = random.Random(6).sample(kinds["natural"], min(20_000, len(kinds["natural"])))
    for name, (_, _, known) in CONFIGS.items():
        if options.only not in name:
            continue
        data = train(name, sample)
        tokenizer = Tokenizer.from_str(json.dumps(data))
        (folder / "tokenizer.json").write_text(json.dumps(data))
        check(f"{name}, tokenizer.json", folder, tokenizer, records)
        check(f"{name}, plain", folder, tokenizer, records[::5], plain=True)
        if known:
            data = for_gguf(data)
            write_gguf(data, known, folder / "model.gguf")
            check(f"{name}, GGUF", folder / "model.gguf", Tokenizer.from_str(json.dumps(data)), records)
    shutil.rmtree(folder)
    print(f"{total} lines compared, {wrong} differ")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
