"""Draw the sample of text that is bundled with whence; WHENCE_DATA names the folder of the full texts.

    WHENCE_DATA=... python tools/make_text_sample.py

Writes src/whence/study/text/sample.jsonl.gz, the same bytes every time. All four texts are in the public
domain: Shakespeare's plays (tinyshakespeare), Melville's "Moby-Dick", the addresses on the state of the
union, and the Jargon File.
"""

import gzip
import json
import os
import re
from pathlib import Path

TO = Path(__file__).parents[1] / "src/whence/study/text/sample.jsonl.gz"
CHARACTERS, PASSAGES, WORDS = 30_000, 120, 30
FILES = {
    "shakespeare": "tinyshakespeare.txt.gz",
    "moby-dick": "domains/moby-dick.txt.gz",
    "state-of-the-union": "domains/state-of-the-union.jsonl.gz",
    "jargon": "domains/jargon.txt.gz",
}
SKIPPED = {"jargon": 250_000, "state-of-the-union": 4_000_000}  # licences and lists, and early addresses
TASKS = ("moby-dick", "jargon")


def text_of(path: Path) -> str:
    content = gzip.decompress(path.read_bytes()).decode("utf-8")
    if ".jsonl" in path.name:
        return "\n\n".join(json.loads(line)["text"] for line in content.split("\n") if line.strip())
    return content


def passages(text: str) -> list[tuple[str, str]]:
    """Stretches of `WORDS` words and the word after them, where that is one of at least three letters."""
    words = text.split()
    found = []
    for start in range(0, len(words) - WORDS, WORDS):
        last = words[start + WORDS].strip(".,;:!?\"'()-")
        if re.fullmatch(r"[A-Za-z]{3,}", last):
            found.append((" ".join(words[start : start + WORDS]), last))
    return found[:PASSAGES]


def main() -> None:
    root = Path(os.environ["WHENCE_DATA"]) / "text"
    lines = []
    for name, file in FILES.items():
        text = text_of(root / file)
        start = SKIPPED.get(name, 0)
        lines.append({"domain": name, "text": text[start : start + CHARACTERS]})
        if name in TASKS:
            rest = text[start + 2 * CHARACTERS : start + 5 * CHARACTERS]
            pairs = passages(rest)
            assert len(pairs) == PASSAGES, (name, len(pairs))
            lines += [{"task": name, "context": c, "continuation": f" {w}"} for c, w in pairs]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8")
    TO.write_bytes(gzip.compress(content, mtime=0))
    print(f"{TO}: {TO.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
