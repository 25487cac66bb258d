"""Write docs/reference/cli.md from the commands themselves; with --check only say if it is up to date."""

import enum
import re
import sys
from pathlib import Path
from typing import get_type_hints

from typer.main import get_command

from whence.cli import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
INTRODUCTION = """\
# Command line

<!-- written by docs/cli_reference.py: run `make docs` after changing a command -->

Every verb prints JSON with `--json`. A mistake in what you passed is one sentence and exit code 2; another
known trouble (a full disk, a training that fails) is one sentence and exit code 1. Long verbs show their
progress; Ctrl-C leaves everything that was committed, and the same command resumes. `python -m whence` is
`whence`.
"""


def main():
    text = INTRODUCTION + "".join(f"\n{section}" for section in sections(get_command(app), ("whence",)))
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE} is not what the commands say; run python docs/cli_reference.py")
        return
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")


def sections(command, words):
    inside = getattr(command, "commands", None)
    if inside:
        for name, child in inside.items():
            yield from sections(child, (*words, name))
        return
    prose, _, example = (command.help or "").partition("Example:")
    example = example.strip() or (command.epilog or "").partition("Example:")[2].strip()
    hints = get_type_hints(command.callback)
    rows = [row(param, hints.get(param.name)) for param in command.params if param.name != "help"]
    yield "\n".join(
        [
            f"## {' '.join(words)}\n",
            f"{prose.strip()}\n",
            f"```console\n$ {' '.join(example.split())}\n```\n",
            "| | | default |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def row(param, kind):
    default = "required" if param.required else shown(param.default)
    names = param.name.upper() if param.param_type_name == "argument" else ", ".join(param.opts)
    help_text = re.sub(r"\s+", " ", param.help or "").replace("|", "\\|")
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        help_text += " One of " + ", ".join(shown(choice) for choice in kind) + "."
    return f"| `{names}` | {help_text} | {default} |"


def shown(value):
    if value is None or value is False or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"  # a choice of an enumeration, or plain


if __name__ == "__main__":
    main()
