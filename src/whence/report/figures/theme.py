"""Colours and layout that all figures share.

Figures are made in the light palette. Every colour is one of the strings below, so that a page can turn a
figure dark
by replacing each light string with its dark partner (`dark` here, `page.js` in a browser).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# role: (light, dark). The accent marks what is studied and what raises an output, the warm colour what lowers
# it;
# all the rest is neutral. Blue-green against rust stays apart for every common form of colour blindness.
PALETTE = {
    "ink": ("#1b2126", "#e8ebed"),
    "muted": ("#5b666f", "#a3adb5"),
    "line": ("#dfe2e0", "#353d43"),
    "zero": ("#9aa3a9", "#69747c"),
    "accent": ("#0b6e75", "#4cc2c4"),
    "accent_second": ("#6aa5a8", "#2e8488"),
    "accent_point": ("rgba(11,110,117,0.55)", "rgba(76,194,196,0.6)"),
    "accent_band": ("rgba(11,110,117,0.14)", "rgba(76,194,196,0.18)"),
    "warm": ("#b4501e", "#f0925c"),
    "warm_point": ("rgba(180,80,30,0.6)", "rgba(240,146,92,0.65)"),
    "warm_band": ("rgba(180,80,30,0.14)", "rgba(240,146,92,0.18)"),
    "neutral": ("#b9c0c4", "#59646c"),
    "neutral_point": ("rgba(91,102,111,0.6)", "rgba(163,173,181,0.6)"),
    "neutral_band": ("rgba(91,102,111,0.12)", "rgba(163,173,181,0.16)"),
    "paper": ("#ffffff", "#1a1f23"),
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def colour(role: str) -> str:
    """The light colour of a role in `PALETTE`."""
    return PALETTE[role][0]


def figure(
    height: int, *, x: dict[str, Any] | None = None, y: dict[str, Any] | None = None, **layout: Any
) -> Figure:
    """An empty figure in the house style: no frame, hairline grid, one font, nothing that moves under a
    finger."""
    from plotly.graph_objects import Figure, Layout

    axis = {
        "gridcolor": colour("line"),
        "zeroline": False,
        "linecolor": colour("zero"),
        "tickfont": {"color": colour("muted"), "size": 12},
        "title": {"font": {"color": colour("muted"), "size": 13}, "standoff": 10},
        "fixedrange": True,  # a page that scrolls must not zoom a figure by accident
        "automargin": True,
        "separatethousands": True,
    }
    settings = {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "showlegend": False,
        "dragmode": False,
        "hoverlabel": {
            "bgcolor": colour("paper"),
            "bordercolor": colour("zero"),
            "font": {"color": colour("ink"), "size": 13},
        },
        "xaxis": merged(axis, x or {}),
        "yaxis": merged(axis, y or {}),
    }
    return Figure(layout=Layout(merged(settings, layout)))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it, dict by dict."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(out.get(key), dict) and isinstance(value, dict)
        out[key] = merged(out[key], value) if both else value
    return out


def label(fig: Figure, words: str, **where: Any) -> None:
    """Put words directly at a mark. The words are escaped except for <b> and <br>."""
    settings: dict[str, Any] = {
        "showarrow": False,
        "font": {"size": 13, "color": colour("ink")},
        "xanchor": "left",
    }
    fig.add_annotation(merged(settings, {"text": words, **where}))


def key(fig: Figure, *rows: list[tuple[str, str]], limit: int = 48) -> None:
    """Name series in lines above the picture, each in its colour: (colour role, mark and words) one after
    the other.

    A row is broken where it would be wider than a phone (`limit` characters, tags not counted); the top
    margin grows with the number of lines.
    """
    lines: list[list[str]] = []
    for row in rows:
        length = 0
        for place, (role, words) in enumerate(row):
            if place == 0 or length + len(words) > limit:
                lines.append([])
                length = 0
            lines[-1].append(_named(role, words))
            length += len(words) + 3
    where = {
        "x": 0,
        "xref": "paper",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "xshift": -24,
        "yshift": 7,
    }
    label(fig, "<br>".join("   ".join(line) for line in lines), **where, align="left")
    fig.update_layout(margin={"t": 14 + 19 * len(lines)})


# Roles that stand out against the page enough for words (a contrast of 4.5); of others only the mark is
# coloured.
LEGIBLE = ("ink", "muted", "accent", "warm")


def _named(role: str, words: str) -> str:
    if role in LEGIBLE:
        return f'<span style="color:{colour(role)}">{plain(words)}</span>'
    mark, _, rest = words.partition(" ")
    return f'<span style="color:{colour(role)}">{plain(mark)}</span> {plain(rest)}'


def plain(words: object) -> str:
    """User text for a figure: plotly reads a small set of tags, and a label must not become one."""
    return escape(str(words), quote=False)


def dark(fig: Figure) -> Figure:
    """The same figure in the dark palette."""
    from plotly.graph_objects import Figure

    pairs = dict(PALETTE.values())

    def swap(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: swap(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [swap(item) for item in value]
        if not isinstance(value, str) or value in pairs:
            return pairs.get(value, value) if isinstance(value, str) else value
        for light, other in pairs.items():  # colours inside words, as `key` writes them
            value = value.replace(f"color:{light}", f"color:{other}")
        return value

    return Figure(swap(fig.to_plotly_json()))
