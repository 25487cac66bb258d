"""Pieces of the page: pictures, numbers, markup, figures."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np
import pytest

from whence.errors import InputError
from whence.finding import Chart, Series
from whence.report import figures, images, numbers
from whence.report.figures.theme import PALETTE
from whence.report.html import Markup, embedded_json, table, tag
from whence.report.scores import MethodScore, Scoreboard


def decode(data: bytes) -> np.ndarray:
    """A PNG of filter type 0 back into pixels, checking every checksum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", None
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + content)
        if kind == b"IHDR":
            size = struct.unpack(">IIBBBBB", content)
        body += content if kind == b"IDAT" else b""
        at += 12 + length
    width, height, depth, colour = size[:4]
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, {0: 1, 2: 3, 6: 4}[colour])


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (3, 4, 3), (1, 1, 4)])
def test_png_gives_the_pixels_back(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode(images.png(image)), image.reshape(*shape[:2], -1))


def test_png_is_read_by_others(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(images.png(image))
    np.testing.assert_array_equal(np.asarray(pillow.open(tmp_path / "a.png")), image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_png_refuses_what_is_no_picture(image):
    with pytest.raises(InputError, match="`image` has shape"):
        images.png(image)


def test_large_pictures_are_reduced_by_averaging():
    image = np.full((200, 300, 3), 10, np.uint8)
    image[::2] = 20
    small = images.reduced(image, 96)
    assert max(small.shape[:2]) <= 96
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small, 15, atol=1)
    assert images.data_address(image).startswith("data:image/png;base64,")
    assert decode(base64.b64decode(images.data_address(image).split(",")[1])).shape == small.shape


@pytest.mark.parametrize(
    "written, expected",
    [
        (numbers.fixed(-0.004), "0.00"),
        (numbers.fixed(-0.126), "−0.13"),
        (numbers.fixed(float("nan")), "–"),
        (numbers.signed(0.5), "+0.50"),
        (numbers.signed(0.001), "0.00"),
        (numbers.signed(-2), "−2.00"),
        (numbers.significant(0.003142), "0.0031"),
        (numbers.significant(5.23e-7), "5.2e−07"),
        (numbers.significant(12345.6, 3), "12346"),
        (numbers.count(12000), "12,000"),
        (numbers.percent(0.004), "<1\u00a0%"),
        (numbers.percent(0.996), ">99\u00a0%"),
        (numbers.percent(1.0), "100\u00a0%"),
        (numbers.percent(0.5), "50\u00a0%"),
        (numbers.duration(0.21), "0.21 s"),
        (numbers.duration(200), "3 min 20 s"),
        (numbers.duration(7500), "2 h 5 min"),
        (numbers.estimate(0.341, (0.32, 0.36)), "0.34 [0.32, 0.36]"),
        (numbers.estimate(0.341, None), "0.34"),
        (numbers.plural(1, "mask"), "1 mask"),
        (numbers.plural(1200, "mask"), "1,200 masks"),
        (numbers.digits_for(0.11), 3),
        (numbers.digits_for(0.9), 2),
        (numbers.digits_for(5), 1),
        (numbers.digits_for(0), 2),
    ],
)
def test_numbers(written, expected):
    assert written == expected


def test_markup_is_escaped_once():
    assert (
        tag("p", "<b>", Markup("<i>x</i>"), None, ["&", 3], title='"')
        == '<p title="&quot;">&lt;b&gt;<i>x</i>&amp;3</p>'
    )
    assert tag("img", src="a", alt="", hidden=True, class_=None) == '<img src="a" alt="" hidden>'
    assert "<" not in embedded_json({"a": "</script><!--"})
    assert '<td class="num">12,000</td>' in table(["n"], [[12_000]])


def board() -> Scoreboard:
    rows = [MethodScore("Lasso", 0.4, (0.3, 0.5)), MethodScore("Random", -0.01, None, baseline=True)]
    return Scoreboard(
        rows, "Lasso", ceiling=0.7, ceiling_interval=(0.6, 0.8), per_target=np.linspace(0, 0.8, 30)
    )


def every_figure():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    curve = figures.curve.Curve([100, 200], [0.1, 0.2], [0.05, 0.1], [0.2, 0.3])
    return {
        "lds_bars": figures.lds_bars(board()),
        "lds_per_target": figures.lds_per_target(board().per_target),
        "prediction": figures.prediction(x, y, np.abs(y), note="n"),
        "removals": figures.removals(["top", "random", "bottom"] * 4, x, y, np.abs(y), slope=0.4),
        "learning_curve": figures.learning_curve(
            {"Lasso": curve, "Ridge": curve, "Means": curve}, 0.7, (0.6, 0.8)
        ),
        "weight_histogram": figures.weight_histogram(rng.normal(size=(3, 50))),
        "concentration": figures.concentration(rng.normal(size=(3, 50))),
    }


@pytest.mark.parametrize("name, figure", every_figure().items())
def test_figures_use_the_palette_only(name, figure):
    """A colour outside of it would stay as it is when the page turns dark."""
    text = figure.to_json()
    light = {pair[0] for pair in PALETTE.values()} | {"rgba(0,0,0,0)"}
    assert set(re.findall(r"#[0-9a-fA-F]{6}|rgba\([^)]*\)", text)) <= light
    dark = figures.dark(figure).to_json()
    assert PALETTE["ink"][0] not in dark
    assert PALETTE["muted"][0] not in dark


def test_removals_draw_what_they_were_given():
    figure = figures.removals(["top", "random"], [-1.5, 0.1], [-1.2, 0.3], [0.2, 0.1])
    assert [list(trace.x) for trace in figure.data] == [[-1.5], [0.1]]
    assert [list(trace.y) for trace in figure.data] == [[-1.2], [0.3]]
    assert [list(trace.error_y.array) for trace in figure.data] == [[0.2], [0.1]]


def test_histogram_counts_every_weight_once():
    weight = np.random.default_rng(0).normal(size=(4, 500)).round(3)
    bars = figures.weight_histogram(weight).data
    assert sum(sum(bar.y) for bar in bars) == (weight != 0).sum()


def test_concentration_ends_at_all_of_it():
    line = figures.concentration(np.ones((2, 10))).data[1]
    assert line.y[-1] == pytest.approx(1)
    assert list(line.x)[-1] == 10


def test_learning_curve_band_runs_there_and_back():
    curve = figures.curve.Curve([10, 20], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3])
    band = figures.learning_curve({"a": curve}).data[0]
    assert list(band.x) == [10, 20, 20, 10]
    assert list(band.y) == [0.2, 0.3, 0.1, 0.0]


def test_steps_keep_their_height_and_ten_series_can_be_told_apart():
    series = [Series(f"ranker {i}", [1, 10], [0.0, i / 10]) for i in range(10)]
    drawn = figures.chart(Chart("steps", series, "size", "share", log_x=True))
    assert all(trace.line.shape == "hv" for trace in drawn.data) and drawn.layout.xaxis.type == "log"
    looks = {(trace.line.color, trace.line.dash, trace.marker.symbol) for trace in drawn.data}
    assert len(looks) == 10
    words = drawn.layout.annotations[0].text
    assert all(f"ranker {i}" in words for i in range(10))
    assert figures.chart(Chart("lines", series[:2])).data[0].line.shape == "linear"


@pytest.mark.parametrize(
    ("places", "ticks"),
    [((0.2, 0.4, 0.8), {"tickvals": (0.2, 0.4, 0.8)}), ((1.0, 20.0, 3000.0), {"dtick": 1})],
)
def test_a_short_logarithmic_axis_names_its_places(places, ticks):
    drawn = figures.chart(Chart("lines", [Series("a", places, (1, 2, 3))], log_x=True))
    for key, value in ticks.items():
        assert drawn.layout.xaxis[key] == value
