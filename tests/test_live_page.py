"""The live page in a browser: it shows what the service says, and a click changes the list."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
import uvicorn
from tiny import DAY

from jaxdecay.recommend import load
from jaxdecay.serve import http
from jaxdecay.serve.limits import Limits
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.service import Service
from jaxdecay.serve.telemetry import Telemetry

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """<script>
const until = async ready => { while (!ready()) await new Promise(resolve => setTimeout(resolve, 20)); };
const items = () => [...document.querySelectorAll("#list .item")].map(one => one.dataset.item);
const widths = () => [...document.querySelectorAll("#modes i")].map(one => parseFloat(one.style.width));
const changed = async what => { const before = $("moment").textContent + items(); what();
  await until(() => $("moment").textContent + items() !== before); };
(async () => {
  const told = {};
  await until(() => document.documentElement.dataset.ready);
  told.user = $("user").value;
  told.first = items();
  told.left = widths();
  $("slider").value = 800;
  await changed(() => $("slider").oninput());
  told.later = items();
  told.faded = widths();
  $("slider").value = 0;
  await changed(() => $("slider").oninput());
  const last = items().at(-1);
  told.clicked = last;
  await changed(() => [...document.querySelectorAll("#list .item")].at(-1).click());
  told.trial = items();
  told.why = $("sentence").textContent;
  told.chips = document.querySelectorAll("#chips button").length;
  await changed(() => document.querySelector("#chips button").click());
  told.back = items();
  $("write").click();
  await changed(() => [...document.querySelectorAll("#list .item")].at(-1).click());
  told.written = items();
  told.fault = $("fault").textContent;
  told.beyond = document.documentElement.scrollWidth - innerWidth;
  document.title = JSON.stringify(told);
})().catch(error => { document.title = JSON.stringify({ fault: String(error) }); });
</script></body>"""


@pytest.fixture(scope="module")
def service(tiny_run: Path) -> Iterator[Service]:
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield Service(load(tiny_run), MemoryStore())
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def address(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With a script of the test's own in the page, which its rules would not let in."""
    monkeypatch.setattr(http, "_PAGE", http._PAGE.replace("</body>", PROBE))
    monkeypatch.setattr(http, "_PAGE_HEADERS", {})
    app = http.application(
        Serving(service.run.path, lambda: service), Limits(rate=0, token="secret"), Telemetry()
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def browsed(url: str, profile: Path, width: int) -> str:
    """What a browser makes of it."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    options += ["--virtual-time-budget=60000", f"--window-size={width},900", "--dump-dom"]
    return subprocess.run(
        [BROWSER, *options, url], capture_output=True, text=True, timeout=100, check=True
    ).stdout


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_a_click_changes_the_list_and_stays_only_if_it_is_said(
    address: str, service: Service, tmp_path: Path
) -> None:
    before = service.state("u07").events
    latest = service.state("u07").latest
    assert latest is not None
    far = round(365 * DAY * 0.8**3)
    later, first = (list(service.recommend("u07", 10, latest + 1 + after).items) for after in (far, 0))
    found = re.search(
        "<title>(.*?)</title>", browsed(f"{address}/#token=secret&user=u07", tmp_path / "profile", 500)
    )
    assert found is not None
    told: dict[str, Any] = json.loads(found[1].replace("&amp;", "&"))
    assert told["fault"] == ""
    assert told["user"] == "u07"
    assert (told["first"], told["later"]) == (first, later)
    assert first != later
    assert all(later <= first for first, later in zip(told["left"], told["faded"], strict=True))
    assert sum(told["faded"]) < sum(told["left"])
    assert told["trial"].index(told["clicked"]) < 9
    assert (told["clicked"] in told["why"], told["chips"], told["back"]) == (True, 1, told["first"])
    assert told["written"] != told["back"]
    assert told["beyond"] <= 0
    assert service.state("u07").events == before + 1
    assert service.store.last() == 1


@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_without_the_token_the_page_asks_for_it(address: str, tmp_path: Path) -> None:
    seen = browsed(f"{address}/", tmp_path / "profile", 1200)
    assert '<form id="ask">' in seen  # no longer hidden
    assert "give the token of this server" in seen
    assert "u07" not in re.sub("<script>.*?</script>", "", seen, flags=re.DOTALL)


def test_the_page_fetches_nothing_from_elsewhere() -> None:
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML|<link|eval", http._PAGE)
    assert http._PAGE_HEADERS["content-security-policy"].startswith("default-src 'none'; ")
