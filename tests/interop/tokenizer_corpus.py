"""Texts to compare tokenizers with: what Debian packages in many languages, and lines made to be hard.

Text is taken out of packages (apt-get download, dpkg-deb -x) without installing them.
"""
import bz2
import gettext
import gzip
import pathlib
import random
import subprocess

PACKAGES = """manpages-fr manpages-de manpages-ru manpages-ja manpages-zh iso-codes fortunes fortunes-zh fortunes-cs
    fortunes-bg debian-faq-ko hunspell-ar hunspell-th hunspell-ko perl-doc python3.11-doc unicode-data""".split()
SUFFIXES = {".txt", ".pod", ".html", ".htm", ".dic", ".py", ".xml"}


def fetch(cache):
    """The packages' files, as a folder."""
    tree = cache / "interop-text"
    if not (tree / "complete").exists():
        tree.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=", *PACKAGES], cwd=tree, check=True)
        for package in tree.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package.name, "files"], cwd=tree, check=True)
            package.unlink()
        (tree / "complete").touch()
    return tree / "files"


def read(path):
    """A file's text, "" for what is none."""
    if path.suffix == ".mo":
        with open(path, "rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog
        return "\n".join(f"{a}\t{b}" for a, b in catalogue.items() if isinstance(a, str) and a)
    data = path.read_bytes()
    if path.suffix in (".gz", ".bz2"):
        data = (gzip if path.suffix == ".gz" else bz2).decompress(data)
    elif path.suffix not in SUFFIXES and "/fortunes/" not in str(path):
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def natural(cache, size):
    """About `size` characters, each file in proportion to its own: single lines, and runs of lines."""
    paths = [p for p in sorted(fetch(cache).rglob("*")) if p.is_file() and not p.is_symlink()]
    # Python's manual is there as source text too, and some tables are long: neither may outweigh the languages.
    texts = [read(p)[:200_000] for p in paths if not (p.suffix == ".html" and "python" in str(p))]
    texts = [t for t in texts if len(t) > 200]
    keep = min(1, size / sum(map(len, texts)))
    rng = random.Random(1)
    lines = []
    for text in texts:
        rows = text.split("\n")
        at = 0
        while at < len(rows):
            run = rng.choice((1, 1, 1, 2, 3, 8, 40))
            if rng.random() < keep:
                lines.append("\n".join(rows[at : at + run]) + rng.choice(("", "\n")))
            at += run
    return [line for line in lines if line]


def every_character():
    """Each code point beside letters, spaces, marks, apostrophes and its neighbours."""
    for first in range(0, 0x110000, 64):
        if 0xD800 <= first < 0xE000:
            continue
        block = [chr(c) for c in range(first, first + 64)]
        for between in ("", " ", "x", " x!", "'", "1", "\n", "  \u0301"):
            yield between.join(block)


def stress():
    """Lines made up at random from parts that tokenizers find hard."""
    rng = random.Random(2)
    emoji = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "☺️", "🤷🏿‍♀️", "🫱🏻‍🫲🏾", "©️", "\U0001fae8"]
    marks = ["e\u0301", "é", "a\u0323\u0307", "a\u0307\u0323", "Å", "\u212b", "ﬁ", "각", "\u1100\u1161\u11a8",
             "\u0344", "q\u0307\u0323", "ZA̡͊͠͝LGΌ", "นี้", "क्षि", "عَرَبِيّ", "שָׁלוֹם", "ṩ", "ſ", "K", "ß", "İi"]
    spaces = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003",
              "\u2028", "\u2029", "\u200b", "\u202f", "\u205f", "\u3000", "\ufeff", " \n \n", "\n\n\n", "     \t  "]
    digits = ["1", "12", "123", "1234", "12345678901", "3.14", "1,000", "١٢٣", "१२३", "Ⅷ", "½", "²", "１２", "𝟘𝟙", "-7e10"]
    words = ["don't", "DON'T", "I'LL", "we'Ve", "it's", "'s", "'ſ", "'re", "l'été", "’s", "Hello", "HELLO", "hELLO",
             "camelCaseWord", "snake_case", "x86_64", "日本語", "漢字かな交じり", "한국어", "Ελληνικά", "Русский",
             "ไทย", "中文。", "<|im_start|>", "<|endoftext|>", "<|im_end", "|>", "<a>", "<a>b", "<tag>", "user"]
    code = ["for (int i = 0; i < n; i++) {", "    return x->y[3] += 0x1F;", "/* */", "#include <stdio.h>", "!=", "===",
            "\\n", "\"%s\\n\"", "$HOME", "@property", "//", "http://example.org/a?b=c&d=%20#e", "{{}}", "...", "---"]
    odd = ["\x00", "\x01", "\x04", "\x13", "\x1b[0m", "\x7f", "\x9f", "\xad", "\ufffd", "\ufffe", "\U0010ffff",
           "\U000e0001", "\ue000", "\u200d", "\u200f", "\u2066", "\U000f0000", "\U00040000"]
    kinds = [emoji, marks, spaces, spaces, digits, words, words, code, odd]
    for _ in range(30_000):
        yield "".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randint(1, 25)))
    for part in ("a", "aB", " ", "\n", " \n", "日", "1", "!", "e\u0301", "👍🏽", "\x00", "'", "<", "ab ", "\u0301"):
        for count in (100, 5_000):
            yield part * count
            yield "x" + part * count + "x"
    for _ in range(300):
        yield "".join(rng.choice("abcdefghijklmnopqrstuvwxyzäöüéα") for _ in range(rng.randint(200, 3000)))
    for _ in range(2_000):
        codes = (rng.randrange(0x110000) for _ in range(20))
        yield "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)


def composable(cache):
    """The Unicode consortium's cases for normalization forms."""
    for name in (fetch(cache) / "usr/share/unicode").glob("NormalizationTest.txt*"):
        for row in read(name).split("\n"):
            if row and row[0] in "0123456789ABCDEF":
                for column in row.split(";")[:5]:
                    yield "".join(chr(int(c, 16)) for c in column.split())


def broken():
    """Bytes that are not UTF-8."""
    rng = random.Random(3)
    pieces = [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
              b"\xe0\x80\x80", b"\x80", b"abc", "é".encode(), "日".encode(), "😀".encode(), b" ", b"\xf8\x88"]
    for _ in range(5_000):
        yield b"".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))
    for _ in range(2_000):
        yield rng.randbytes(rng.randint(1, 40))


def corpus(cache, size):
    """All lines: lists of str by kind."""
    return {
        "natural": natural(cache, size),
        "characters": list(every_character()),
        "stress": list(stress()),
        "composable": list(composable(cache)),
    }
