"""Tables for people, on stdout."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxdecay.results import Report

WIDE = 160  # columns of a table that goes to a file or a pipe


def console() -> Console:
    """Stdout as it is now; a pipe gets wide lines rather than cut ones."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDE)


def show_rows(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    bold: Iterable[int] = (),
) -> None:
    """A plain table; numbers to the right, the rows numbered in ``bold`` in bold."""
    rows, bold = [list(row) for row in rows], set(bold)
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold"
    )
    for column, name in enumerate(header):
        numeric = bool(rows) and all(
            isinstance(row[column], (int, float)) or row[column] is None for row in rows
        )
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(Text(_text(cell)) for cell in row), style="bold" if number in bold else None)
    stdout = console()
    with stdout.capture() as lines:
        stdout.print(table)
    # A cell is filled up with blanks, which say nothing at the end of a line.
    print(re.sub(r" +((?:\x1b\[[\d;]*m)*)$", r"\1", lines.get(), flags=re.MULTILINE), end="")


def show_evaluation(report: Report, *, k: int) -> None:
    """The protocol, the table of all targets, of repeats and novelties, and what the model is better or worse
    than."""
    for line in protocol_lines(report.protocol):
        console().print(Text(line), soft_wrap=True)
    model = list(report.systems)[-1]
    metrics = [f"{name}@{k}" for name in ("ndcg", "hr", "mrr")]
    both = {"repeats", "novelties"} <= {figure.group for figure in report.figures}
    for group in ("all", "repeats", "novelties") if both else ("all",):
        header, rows = report.table(metrics if group == "all" else metrics[:1], group=group)
        print()
        show_rows(header, rows, title=f"{group} targets" if group == "all" else group, bold=_of(model, rows))
    _show_lists(report, k, model)
    differences = [
        (
            d.system,
            f"{0 - d.value:+.4f} [{0 - d.high:+.4f}, {0 - d.low:+.4f}]",
            ("better" if d.value < 0 else "worse") if d.clear else "not clear",
        )
        for d in report.differences
        if (d.metric, d.group, d.reference, d.time, d.reference_time)
        == (metrics[0], "all", model, "given", "given")
    ]
    if differences:
        print()
        show_rows(
            ["system", f"{model} minus it, {metrics[0]}", ""],
            differences,
            title="paired differences over users",
        )


def _show_lists(report: Report, k: int, model: str) -> None:
    """What lists are like besides hits, where strategies or steered lists were judged."""
    names = [f"{name}@{k}" for name in ("coverage", "gini", "distance", "exposure")]
    there = {figure.metric for figure in report.figures}
    if names[2] not in there:
        return
    header, rows = report.table(name for name in names if name in there)
    print()
    show_rows(header, rows, title="lists", bold=_of(model, rows))


def protocol_lines(protocol: Any) -> list[str]:
    """What the figures hold under, in words."""
    asked = f"{protocol['requests']} requests of {protocol['users']} users"
    if protocol["sample"] != "all":
        asked += f" (a sample: {protocol['sample']})"
    if protocol.get("not_taken"):
        asked += f"; and {protocol['not_taken']} that were shown something and did not take it"
    return [
        f"{protocol['split']} split, {protocol['part']} part, {protocol['targets']} targets: {asked}",
        *_targets_of(protocol),
        f"ranked: {protocol['candidates']} of {protocol['items']}; ties: {protocol['ties']}",
        f"counts of the catalogue: {protocol['catalogue_counts']}",
        f"history {protocol['history']} ({protocol['history_why']})",
        f"half-lives of the model: {protocol['half_lives']['how']}",
        *(f"{word}: {protocol[word]}" for word in ("strategy", "steered") if protocol.get(word)),
        f"in brackets: {protocol['interval']}",
        *(f"warning: {warning}" for warning in protocol["warnings"]),
    ]


def _targets_of(protocol: Any) -> list[str]:
    words = {"warm": "items that training has seen", "cold": "items that no earlier part has"}
    which = protocol.get("targets_of", "all")
    return [f"targets: {words[which]}"] if which in words else []


def _of(system: str, rows: Sequence[Sequence[str]]) -> list[int]:
    return [number for number, row in enumerate(rows) if row[0] == system]


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
