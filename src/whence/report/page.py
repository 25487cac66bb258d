"""The page around the sections: head, bar, verdict, key numbers, and the parts that make it work on its
own."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from functools import cache
from importlib import resources

from whence.report.block import Section
from whence.report.figures.theme import FONT, PALETTE
from whence.report.html import Markup, embedded_json, tag, text

# Forbids every request, also those that a future change might add by mistake: the page works offline or not
# at all.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri"
    " 'none'; form-action 'none'"
)
# Before the first paint: no flash of the wrong theme, and whoever has no scripts sees the tables at once.
_EARLY = (
    "(()=>{const r=document.documentElement;r.classList.add('js');let"
    " t=(location.hash.match(/theme=(light|dark)/)||[])[1];"
    "try{t=t||localStorage.getItem('whence-theme')}catch(e){}if(t)r.dataset.theme=t})()"
)
_MARK = Markup(
    '<svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><g fill="none"'
    ' stroke="currentColor" stroke-width="2.6" stroke-linecap="round"><path d="M5 7c8 0 8 9 15 9"/><path'
    ' d="M5 16h15"/><path d="M5 25c8 0 8-9 15-9"/></g><circle cx="24.5" cy="16" r="4"'
    ' fill="currentColor"/></svg>'
)


def page(
    title: str, verdict: Markup, cards: Sequence[tuple[str, str, str]], sections: Sequence[Section]
) -> str:
    """The whole document. Equal arguments give equal bytes."""
    figures = any('class="plot"' in part.body for part in sections)
    body = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        _bar(sections),
        tag("main", _head(title, verdict, cards), [part.render() for part in sections], id="content"),
        tag("footer", tag("p", "Made by whence. This page is complete: it asks nothing of the network.")),
        _scripts(figures),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="whence"),
        tag("title", title),
        tag("style", Markup(_style())),
        tag("script", Markup(_EARLY)),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _bar(sections: Sequence[Section]) -> Markup:
    links = [tag("a", part.nav, href=f"#{part.key}") for part in sections]
    toggle = tag(
        "button",
        Markup('<span aria-hidden="true"></span>'),
        type="button",
        class_="theme",
        aria_label="Switch between light and dark",
    )
    return tag(
        "div",
        tag("a", _MARK, tag("span", "whence"), href="#content", class_="mark"),
        tag("nav", links, aria_label="Sections"),
        toggle,
        class_="bar",
    )


def _head(title: str, verdict: Markup, cards: Sequence[tuple[str, str, str]]) -> Markup:
    shown = [
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note)))
        for value, name, note in cards
    ]
    return tag(
        "header",
        tag("h1", _whole_words(title)),
        tag("p", verdict, class_="verdict") if verdict else None,
        tag("dl", shown, class_="cards") if shown else None,
        class_="head",
    )


def _scripts(figures: bool) -> Markup:
    if not figures:
        return tag("script", Markup(_file("page.js")))
    light_to_dark = dict(PALETTE.values())
    return Markup(
        tag(
            "noscript",
            tag("p", "Figures need scripts; the numbers under each of them do not.", class_="note"),
        )
        + tag("script", embedded_json(light_to_dark), type="application/json", id="palette")
        + tag("script", Markup(_plotly()), type="application/octet-stream", id="plotly")
        + tag("script", Markup(_file("page.js")))
    )


def _whole_words(title: str) -> Markup:
    """A title that is not broken at the hyphen of a name such as Fashion-MNIST."""
    words = [
        tag("span", word, class_="whole") if "-" in word and len(word) < 18 else text(word)
        for word in title.split()
    ]
    return Markup(" ".join(words))


@cache
def _plotly() -> str:
    """plotly.js as gzip in base64: 2 MB in the file where the plain text would take 5.

    It is the very file that comes with the plotly package, so figures and library always fit each other.
    """
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode("ascii")


def _style() -> str:
    light = "".join(f"--{name.replace('_', '-')}:{pair[0]};" for name, pair in PALETTE.items())
    dark = "".join(f"--{name.replace('_', '-')}:{pair[1]};" for name, pair in PALETTE.items())
    rules = _file("page.css").replace("/*light*/", light).replace("/*dark*/", dark)
    return f":root{{--font:{FONT};}}\n{rules}"


@cache
def _file(name: str) -> str:
    return resources.files("whence.report").joinpath(name).read_text(encoding="utf-8")
