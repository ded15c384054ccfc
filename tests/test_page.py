"""The page on a run: whole in one file, in its order, and what comes from a log stays text."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import jax
import pytest
from lines import refuser, sayer
from shown import TITLE, judged
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.findings import Findings
from jaxdecay.page import background, examples, fading, quality, write_page
from jaxdecay.page.html import Markup, table, text

ORDER = ["found", "table", "half-lives", "memory", "examples", "drift", "data", "caveats"]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Seen(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += " " + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: copy it before changing it."""
    return judged(tiny_run, tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with jax.numpy_rank_promotion("allow"):
        return write_page(Findings(run, seed=1), tmp_path_factory.mktemp("written") / "report.html")


def test_the_page_is_whole_and_in_order(written: Path) -> None:
    source = written.read_text(encoding="utf-8")
    seen = Seen(source)
    assert not seen.open
    assert [one["id"] for one in seen.all("section")] == ORDER
    assert [one["href"] for one in seen.all("a")] == [f"#{name}" for name in ORDER]
    pictures = [one["src"] or "" for one in seen.all("img")]
    assert (
        len(pictures) == 12
    )  # two of quality, three of half-lives, memory, three users, drift, two of training
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert all(one["alt"] for one in seen.all("img"))
    assert len(source) < 3 * 2**20


def test_nothing_is_fetched_and_nothing_runs(written: Path) -> None:
    seen = Seen(written.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in seen.tags}
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    styles = re.findall(r"<style>(.*?)</style>", written.read_text(encoding="utf-8"), re.DOTALL)
    assert not re.search(r"url\(|@import", "".join(styles))


def test_titles_stay_text(written: Path, run: Path) -> None:
    seen = Seen(written.read_text(encoding="utf-8"))
    some = re.findall(re.escape(TITLE).replace(r"\{item\}", r"(i\d\d)"), seen.text)
    assert len(set(some)) >= 3
    assert text("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert text(Markup("<b>")) == "<b>"
    assert table(("<a>",), [("<b>",), (1,)], own=[1]) == (
        '<div class="wide"><table><thead><tr><th>&lt;a&gt;</th></tr></thead><tbody>'
        '<tr><td>&lt;b&gt;</td></tr><tr class="own"><td>1</td></tr></tbody></table></div>'
    )


def test_what_it_says_is_what_was_measured(written: Path, run: Path) -> None:
    seen, figures = (
        Seen(written.read_text(encoding="utf-8")).text,
        json.loads((run / "metrics.json").read_text()),
    )
    own = figures["systems"]["jaxdecay"]["metrics"]
    whole = "{value:.3f}\xa0[{low:.3f},\xa0{high:.3f}]".format(**own["ndcg@10"])
    assert seen.count(whole) >= 2  # in the first sentence and in the table
    assert f"in {own['hr@10']['value']:.0%} of cases" in seen
    others = {
        name: one["metrics"]["ndcg@10"]["value"]
        for name, one in figures["systems"].items()
        if name != "jaxdecay"
    }
    best = max(others, key=lambda name: others[name])
    [difference] = [
        one for one in figures["differences"]
        if (one["system"], one["metric"], one["group"], one["time"], one["reference_time"])
        == (best, "ndcg@10", "all", "given", "given") and one["reference"] == "jaxdecay"
    ]  # fmt: skip
    clear = difference["low"] > 0 or difference["high"] < 0
    assert f"“{best}”" in seen
    assert ("neither clearly better nor worse" not in seen) == clear
    assert f"{-difference['value']:+.3f}" in seen
    for caveat in ("without decay was not evaluated", "drawn with seed 0", "(Laplace)", "trained once"):
        assert caveat in seen


def test_examples_are_drawn_by_the_seed(run: Path, written: Path) -> None:
    def users(source: str) -> list[str]:
        return re.findall(r"<h3>User (u\d\d): 20 events", source)

    drawn = users(written.read_text(encoding="utf-8"))
    assert len(set(drawn)) == 3
    others = examples.examples(Findings(run, seed=2), 1).markup()
    assert users(others) != drawn[:1]
    assert users(examples.examples(Findings(run, seed=2), 1).markup()) == users(others)


def test_with_an_encoder_it_says_what_its_figures_leave_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same run, which has none, so that everything but the words stays."""
    makers = (quality.summary, fading.half_lives, background.caveats)
    said = ("remembers, too", "encoder of 2 blocks", "leaving events out one by one")
    found = Findings(run)
    with jax.numpy_rank_promotion("allow"):
        plain = [make(found).markup() for make in makers]
        monkeypatch.setattr(Findings, "blocks", 2)
        encoded = [make(found).markup() for make in makers]
        listed = examples.examples(found, 1).markup()
    for words, before, after in zip(said, plain, encoded, strict=True):
        assert words not in before
        assert words in after
    assert "by 0% of the latter" in listed  # taken apart exactly: no encoder's


def test_what_is_missing_is_one_line(
    run: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say = sayer(capsys)
    refused = refuser(say)
    assert "run jaxdecay evaluate" in refused("report", tiny_run, "--out", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()
    assert "there is no folder" in refused("report", run, "--out", tmp_path / "no" / "a.html")
    assert "0 or more example users" in refused("report", run, "--users -1 --out", tmp_path / "a.html")
    said = say("report", run, "--users 0 --json --out", tmp_path / "b.html")
    assert said.json == {"written": str(tmp_path / "b.html")}


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_a_browser_shows_every_picture_and_nothing_sticks_out(written: Path, tmp_path: Path) -> None:
    """In a copy whose title a script of the test's own sets to what the browser made of the page."""
    assert BROWSER is not None
    probe = """<script>addEventListener("load", () => {
        const drawn = [...document.images].map(image => image.naturalWidth);
        const beyond = document.documentElement.scrollWidth - innerWidth;
        const sections = document.querySelectorAll("section").length;
        document.title = JSON.stringify(
            [drawn.length, Math.min(...drawn), document.scripts.length, beyond, sections]);
        })</script></body>"""
    copy = tmp_path / "probed.html"
    copy.write_text(written.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=600,900", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *options, copy.as_uri()], capture_output=True, text=True, timeout=100, check=True
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    images, narrowest, scripts, beyond, sections = json.loads(found[1])
    assert (images, scripts, sections) == (12, 1, len(ORDER))  # the one script is the test's
    assert narrowest > 300
    assert beyond <= 0
