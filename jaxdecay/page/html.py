"""Pieces of the page. Whatever comes from a log is escaped here, and nowhere else."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from jaxdecay.plots import Axes

_DPI = 130


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Section(NamedTuple):
    """A part of the page under its heading."""

    name: str
    """Of its anchor."""
    heading: str
    body: Sequence[Markup]

    def markup(self) -> Markup:
        parts = "\n".join([f"<h2>{text(self.heading)}</h2>", *self.body])
        return Markup(f'<section id="{escape(self.name)}">\n{parts}\n</section>')


def text(given: object) -> Markup:
    """Escaped, unless it is markup."""
    return given if isinstance(given, Markup) else Markup(escape(str(given)))


def paragraph(given: object, *, small: bool = False) -> Markup:
    opening = '<p class="small">' if small else "<p>"
    return Markup(f"{opening}{text(given)}</p>")


def heading(given: object) -> Markup:
    return Markup(f"<h3>{text(given)}</h3>")


def bullets(given: Iterable[object], *, numbered: bool = False) -> Markup:
    kind, lines = "ol" if numbered else "ul", "".join(f"<li>{text(one)}</li>" for one in given)
    return Markup(f"<{kind}>{lines}</{kind}>")


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, own: Iterable[int] = ()) -> Markup:
    """``own``: numbers of the rows in bold."""
    own = set(own)
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    lines = []
    for place, row in enumerate(rows):
        opening = '<tr class="own">' if place in own else "<tr>"
        cells = "".join(f"<td>{text(cell)}</td>" for cell in row)
        lines.append(f"{opening}{cells}</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return Markup(f'<div class="wide"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>')


def figure(ax: Axes, caption: object) -> Markup:
    """The picture inside the page itself, as base64 PNG."""
    drawn = ax.get_figure(root=True)
    assert drawn is not None
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=_DPI)
    width, height = drawn.get_size_inches() * 96
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup(
        f'<figure><img alt="{escape(str(caption))}" width="{width:.0f}" height="{height:.0f}" '
        f'src="data:image/png;base64,{data}"><figcaption>{text(caption)}</figcaption></figure>'
    )
