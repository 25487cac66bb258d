"""A griffe extension: our docstrings' sections as Markdown lists.

A section is numpy's (a name underlined with dashes), but an entry reads `name : what it is, in words`,
without a type before the words: types are in the signature. Numpy's parser would take the words for the type.
"""

import re

import griffe

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
ENTRY = re.compile(r"^(\S.*?) : (.*)$")


def as_markdown(text: str) -> str:
    """`Parameters\\n----------\\nx : words` becomes a bold title and a list."""
    parts = SECTION.split(text)
    out = [parts[0].rstrip()]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        out += [f"\n\n**{title}**\n"]
        for line in body.strip("\n").splitlines():
            entry = ENTRY.match(line)
            if entry:
                out.append(f"\n- `{entry[1]}`: {entry[2]}")
            elif line.strip() and not line.startswith(" ") and out[-1] == "":
                out.append(f"\n{line}")  # prose after the entries ends the list
            else:
                out.append(line)
    return "\n".join(out)


class Sections(griffe.Extension):
    """Rewrites each docstring once it has been read."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
