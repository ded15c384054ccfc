"""One self-contained page on a run, for people: no script, nothing from the network, pictures inside.

The order is that of a reader's questions: what was found, how good it is, how fast interest fades, what is
remembered, what that means for some users (drawn by the seed, not chosen), when interests moved, on which
data, and what was not measured.
"""

import datetime
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from jaxdecay import __version__
from jaxdecay.errors import InputError
from jaxdecay.files import check_file
from jaxdecay.findings import Findings
from jaxdecay.page import background, examples, fading, quality
from jaxdecay.page.html import Markup, Section, text

Say = Callable[[dict[str, Any]], None]


def write_page(found: Findings, out: str | Path, *, users: int = 3, report: Say = lambda line: None) -> Path:
    """Writes the page and returns its path. ``users``: how many are drawn as examples. ``report`` is called
    with ``{"doing": ...}`` before each section.

    Raises InputError when the run has not been evaluated, and for a name that is none of a page.
    """
    out = Path(out)
    check_file(out, ".html", ".htm")
    if users < 0:
        raise InputError(f"users={users}: give 0 or more example users")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it, or give another --out")
    out.write_text(page(found, users=users, report=report), encoding="utf-8")
    return out


def page(found: Findings, *, users: int = 3, report: Say = lambda line: None) -> str:
    """The page as text."""
    others = len(found.evaluation["systems"]) - 1  # refused before anything is drawn
    makers: dict[str, Callable[[], Section]] = {
        "what was found": lambda: quality.summary(found),
        "the table": lambda: quality.table_of(found),
        "half-lives": lambda: fading.half_lives(found),
        "what is remembered": lambda: fading.memory(found),
        "examples": lambda: examples.examples(found, users),
        "drift": lambda: examples.drift(found),
        "data": lambda: background.data(found),
        "caveats": lambda: background.caveats(found),
    }
    sections = []
    for doing, make in makers.items():
        report({"doing": doing})
        sections.append(make())
    links = (f'<a href="#{one.name}">{text(one.heading)}</a>' for one in sections)
    data = found.run.config["data"]["fingerprint"][:12]
    now = datetime.datetime.now(datetime.UTC)
    return Template(files(__name__).joinpath("template.html").read_text(encoding="utf-8")).substitute(
        title=text(f"Interest that fades: {found.run.path.resolve().name}"),
        made=text(
            f"A report on a trained run beside {others} other systems, written {now:%Y-%m-%d %H:%M} UTC by "
            f"jaxdecay {__version__}."
        ),
        contents=Markup(" ".join(links)),
        sections=Markup("\n".join(one.markup() for one in sections)),
        foot=text(f"Data {data}; users drawn with seed {found.seed}."),
    )
