"""The page as a whole: it stands alone, says what was put in, and nothing a user typed can become markup."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import whence
from tests.report.conftest import Pictures
from whence.errors import InputError
from whence.report.figures.theme import PALETTE
from whence.report.scores import MethodScore, Scoreboard
from whence.report.sections.trust import headline

VOID = {"img", "meta", "input", "br", "hr", "path", "circle", "rect", "line"}


class Reader(HTMLParser):
    """Elements with their attributes, the visible text, and whether every element is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.stack.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        if name not in VOID:
            assert self.stack.pop() == name

    def handle_data(self, data):
        if self.stack and self.stack[-1] in ("script", "style"):
            self.scripts.append(data)
        else:
            self.text += data

    def all(self, name):
        return [attributes for element, attributes in self.elements if element == name]


@pytest.fixture(scope="module")
def full(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    items = [world.scores, world.comparison, world.removals, world.curve, world.cost]
    whence.report(
        items, path, study=world.study, bank=world.bank, reproduce="make demo", details={"seconds": 12.5}
    )
    return path.read_text(encoding="utf-8")


def test_it_asks_nothing_of_the_network(full):
    read = Reader(full)
    for _, attributes in read.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    policy = next(m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"@import|url\(", "".join(read.scripts[:1]))
    assert not read.stack


def test_sections_are_there_once_and_linked(full):
    read = Reader(full)
    keys = [attributes["id"] for attributes in read.all("section")]
    assert keys == ["trust", "prediction", "check", "gallery", "weights", "curve", "cost", "provenance"]
    anchors = {attributes["href"] for attributes in read.all("a")}
    assert {f"#{key}" for key in keys} <= anchors
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_printed_numbers_are_the_inputs(full, world):
    text = Reader(full).text.replace("\u2212", "-")
    for score in world.comparison.scores.values():
        assert f"{score.mean:.3f}" in text
        assert f"{score.interval[0]:.3f}" in text
        assert f"{score.interval[1]:.3f}" in text
    best = world.comparison.scores["Ridge datamodel"]
    assert f"{best.mean:.2f} [{best.interval[0]:.2f}, {best.interval[1]:.2f}]" in text
    assert f"noise ceiling for 2-seed means is {best.ceiling:.2f}" in text
    assert "106 fresh retrainings: 4 for each of 24 removals" in text
    for row in world.removals.rows:
        assert f"{row.realised:+.2f}" in text
    for point in world.curve.rows:
        assert f"{point.lds:.3f}" in text
    assert f"held-out masks {best.n_masks}" in text
    assert world.cost.sentence.replace("\u2212", "-") in text
    assert world.scores.meaning in text
    assert "make demo" in text


def test_bars_hold_the_scores(full, world):
    bars = specs(full)[0]["data"]
    drawn = {bar["name"]: bar for bar in bars}
    for name, score in world.comparison.scores.items():
        assert drawn[name]["x"] == [score.mean]
        assert drawn[name]["x"][0] + drawn[name]["error_x"]["array"][0] == pytest.approx(score.interval[1])


def test_gallery_shows_the_strongest_weights(full, world):
    card = full[full.index('id="gallery"') :]
    card = card[: card.index("</article>")]
    weights = world.scores.weight[0]
    shown = [
        float(w.replace("\u2212", "-"))
        for w in re.findall(r"<b>([+\u2212]\d[^<]*)</b><span class=\"label", card)
    ]
    expected = [*np.sort(weights)[::-1][:8], *np.sort(weights)[:8]]
    np.testing.assert_allclose(shown, expected, atol=0.006)
    assert card.count("<img ") == 17


def test_every_picture_and_figure_has_words(full):
    read = Reader(full)
    images = read.all("img")
    assert len(images) == 12 * 17
    assert all(image["alt"] for image in images)
    for attributes in read.all("div"):
        if attributes.get("class") == "plot":
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"]) > 30
    # Without scripts the numbers remain: all figures but the spread of targets come with a table.
    assert (
        len([d for d in read.all("details") if d.get("class") == "numbers"]) >= full.count('class="plot"') - 1
    )


def test_the_library_inside_is_the_one_of_plotly(full):
    from plotly.offline import get_plotlyjs

    packed = re.search(r'<script type="application/octet-stream" id="plotly">([^<]*)<', full)[1]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_size(full):
    assert len(full.encode()) < 3_000_000


def test_equal_inputs_give_equal_bytes(world, tmp_path):
    items = [world.scores, world.comparison, world.removals, world.curve, world.cost]
    written = [
        whence.report(items, tmp_path / name, study=world.study, bank=world.bank).read_bytes()
        for name in ("a", "b")
    ]
    assert written[0] == written[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


def test_what_users_typed_stays_text(world, tmp_path):
    study = Pictures(world.bank, name=EVIL, classes=(EVIL, "dog"))
    ids = {"target_ids": [f"{EVIL}{i}" for i in range(30)], "train_ids": [f"{EVIL}{i}" for i in range(40)]}
    scores = whence.Attribution(world.bank.weight, method=EVIL, provenance={EVIL: EVIL}, **ids)
    study.target_ids, study.train_ids = scores.target_ids, scores.train_ids
    finding = whence.Finding(
        EVIL,
        EVIL,
        table=whence.finding.Table([EVIL], [[EVIL]]),
        chart=whence.finding.Chart(
            "bars", [whence.finding.Series(EVIL, [EVIL], [1.0], labels=[EVIL])], EVIL, EVIL
        ),
        pairs=whence.finding.Pairs(EVIL, [0], [0], notes=[EVIL]),
        verified=EVIL,
        meaning=EVIL,
        provenance={EVIL: EVIL},
    )
    board = Scoreboard([MethodScore(EVIL, 0.3, (0.2, 0.4), note=EVIL)], main=EVIL, ceiling=0.5)
    path = whence.report(
        [scores, finding, board],
        tmp_path / "r.html",
        title=EVIL,
        study=study,
        reproduce=EVIL,
        details={EVIL: EVIL},
    )
    page = path.read_text(encoding="utf-8")
    read = Reader(page)
    assert "<script>alert" not in page
    assert not [a for a in read.all("img") if a.get("src") == "x"]
    assert not [a for _, a in read.elements if any(name.startswith("on") for name in a)]
    assert read.text.count("{{7*7}}") > 10
    # plotly reads a few tags in its texts, so those are escaped once more inside the figures
    assert all("<img" not in json.dumps(spec) and "<script" not in json.dumps(spec) for spec in specs(page))


def test_no_study_and_no_bank(world, tmp_path):
    read = Reader(whence.report(world.scores, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [a["id"] for a in read.all("section")] == ["gallery", "weights", "provenance"]
    assert not read.all("img")
    assert "target/0" in read.text
    assert "Nothing here was held against retrainings yet" in read.text


def test_loss_shows_what_helps_first(world, tmp_path):
    scores = whence.Attribution(world.bank.weight, output="loss")
    page = whence.report(scores, tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.index("Lower its loss") < page.index("Raise its loss")


def test_vector_output(world, tmp_path):
    rng = np.random.default_rng(0)
    scores = whence.Attribution(rng.normal(size=(30, 2, 40)), output="logits")
    read = Reader(whence.report(scores, tmp_path / "r.html", study=world.study).read_text(encoding="utf-8"))
    assert "30 targets" in read.text


def test_sparse_weights_of_zero(tmp_path):
    weight = np.zeros((3, 20), np.float32)
    weight[0, :2] = 0.5, -0.25
    read = Reader(whence.report(whence.Attribution(weight), tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "None has such a weight." in read.text
    nothing = Reader(
        whence.report(whence.Attribution(weight * 0), tmp_path / "z.html").read_text(encoding="utf-8")
    )
    assert "all weights are zero" in nothing.text


def test_finding_alone(finding, tmp_path):
    read = Reader(whence.report(finding, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert [a["id"] for a in read.all("section")] == ["finding-support-of-target-3", "provenance"]
    assert "Verified by retraining 20 fresh retrainings." in read.text
    assert "\u22120.22" in read.text


def test_a_claim_that_was_not_verified_says_so(tmp_path):
    path = whence.report(whence.Finding("Leaks", "Row 7 is row 9."), tmp_path / "r.html")
    text = Reader(path.read_text(encoding="utf-8")).text
    assert "Not verified by retraining" in text


def test_two_findings_of_one_name_have_their_own_anchors(finding, tmp_path):
    read = Reader(whence.report([finding, finding], tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len({a["id"] for a in read.all("section")}) == 3


def test_chosen_targets(world, tmp_path):
    path = whence.report(world.scores, tmp_path / "r.html", study=world.study, targets=["target/7"], k=3)
    read = Reader(path.read_text(encoding="utf-8"))
    assert len(read.all("article")) == 1
    assert len(read.all("img")) == 7
    with pytest.raises(InputError, match="no-such"):
        whence.report(world.scores, tmp_path / "s.html", targets=["no-such"])
    assert not (tmp_path / "s.html").exists()


@pytest.mark.parametrize("items", [[], "report", [3], {"a": 1}])
def test_what_cannot_be_shown(items, tmp_path):
    with pytest.raises(InputError, match="items"):
        whence.report(items, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_the_headline_claims_no_more_than_the_intervals():
    def board(lead, low, high, paired=None):
        rival = MethodScore("Pixel similarity", 0.2, (0.15, 0.25), baseline=True, lead=paired)
        return Scoreboard([MethodScore("Lasso", lead, (low, high)), rival], main="Lasso")

    assert "better than every baseline" in headline(board(0.4, 0.35, 0.45))
    assert "cannot be told from" in headline(board(0.24, 0.2, 0.28))
    assert "better than every baseline" in headline(board(0.24, 0.2, 0.28, paired=(0.01, 0.07)))
    assert "does not beat" in headline(board(0.1, 0.05, 0.14))


def test_the_report_is_about_the_attribution_that_is_shown(world, tmp_path):
    """Not about whichever method scored best."""
    random = whence.Attribution(
        world.bank.weight[:, ::-1].copy(),
        method="Random",
        target_ids=world.bank.target_ids,
        train_ids=world.bank.train_ids,
    )
    text = Reader(
        whence.report([random, world.comparison], tmp_path / "r.html").read_text(encoding="utf-8")
    ).text
    assert "Random ranks unseen retrainings with LDS" in text


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("role", ["ink", "muted", "accent", "warm"])
def test_words_stand_out_from_the_page(role, theme):
    ground = ("#f7f7f4", "#121619")[theme]
    for paper in (ground, PALETTE["paper"][theme]):
        assert contrast(PALETTE[role][theme], paper) >= 4.5


def contrast(a: str, b: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def specs(page: str) -> list[dict]:
    """All figures of a page, variants one after the other."""
    found = re.findall(r'<script type="application/json" class="spec">(.*?)</script>', page)
    return [spec for text in found for spec in json.loads(text)]
