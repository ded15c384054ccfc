"""The table for people: Markdown, and a picture of NDCG@10 with its intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from board.logs import Board
from board.systems import FLAGSHIP
from jaxdecay.data.requests import Requests
from jaxdecay.evaluate import rules

Row = dict[str, Any]
Table = dict[str, dict[str, Row]]
"""By system and metric."""
_WORDS = ("repeats", "novelties", "warm", "time withheld")


def table_of(rows: Sequence[Row]) -> Table:
    """The rows of one board by system, in their order, and metric."""
    found: Table = {}
    for row in rows:
        found.setdefault(row["system"], {})[row["metric"]] = row
    return found


def markdown(board: Board, rows: Sequence[Row]) -> str:
    """One board: how it was judged, how good the systems are, and what they cost."""
    table = table_of(rows)
    parts = [f"### {board.log}, {board.protocol}", "", protocol(board), ""]
    parts += [*quality(table), *_unlisted(table, len(board.test)), "", *cost(table), "", _versions(rows)]
    return "\n".join(parts) + "\n"


def protocol(board: Board) -> str:
    """The protocol in a sentence or two."""
    histories, asked = board.histories, board.test
    applied = rules(histories)
    live = "items seen before the request" if applied.seen is not None else "all items"
    drawn = " (a seeded sample)" if board.max_requests is not None else ""
    return (
        f"{len(asked)} test requests{drawn} of {_users(asked)} users, {histories.items} items, full ranking "
        f"over {live}, the user's history {'removed' if applied.exclude_history else 'kept'} "
        f"({histories.repeat_share:.1%} of training events are repeats), ties at their mean rank. Intervals "
        "are 95 % over users; differences are paired, system minus flagship. Where there are several seeds, "
        "figures are their mean, and the seeds' range stands behind."
    )


def _users(asked: Requests) -> int:
    return len(set(asked.user.tolist()))


def quality(table: Table) -> Iterator[str]:
    """How good they are."""
    heads = ["system", "HR@10", "NDCG@10", f"NDCG@10 minus {FLAGSHIP}", "MRR@10", "coverage@10"]
    heads += [f"NDCG@10 {word}" for word in ("debiased", *_WORDS)]
    yield from head([*heads, "seeds"])
    for name, one in table.items():
        cells = [interval(one.get("hr@10")), interval(one.get("ndcg@10")), difference(one.get("ndcg@10"))]
        cells += [interval(one.get(metric)) for metric in ("mrr@10", "coverage@10", "debiased_ndcg@10")]
        cells += [_value(one.get(f"ndcg@10 ({word})")) for word in _WORDS]
        yield line([name, *cells, _seeds(one.get("ndcg@10"))])


def cost(table: Table) -> Iterator[str]:
    """What they cost, and how soon they are as good as the peers."""
    facts = {name: next(iter(one.values())) for name, one in table.items()}
    peers: dict[str, Mapping[str, Any]] = {}
    for row in facts.values():
        peers |= row["reach"]
    heads = [
        "system", "seconds", "tuning, seconds", "cores", "peak MiB", "events/s", "parameters",
        "validation NDCG@10",
    ]  # fmt: skip
    yield from head(
        [*heads, *(f"seconds to the best of {name} ({one['ndcg']:.4f})" for name, one in peers.items())]
    )
    for name, row in facts.items():
        spent, memory = (
            [plain(row[key], 0 if (row[key] or 0) >= 10 else 2) for key in keys]
            for keys in (("seconds", "tuning_seconds"), ("peak_mib", "events_per_second"))
        )
        cells = [*spent, plain(row["cores"], 0), *memory]
        cells += [plain(row["parameters"], 0), plain(row["validation"], 4)]
        cells += [_reach(row, peer) for peer in peers]
        yield line([name, *cells])


def _unlisted(table: Table, requests: int) -> Iterator[str]:
    """What is missing in somebody else's lists."""
    for name, one in table.items():
        if without := next(iter(one.values())).get("requests_without_a_list"):
            yield f"\n{name} has no list for {without} of the {requests} requests: misses."


def _reach(row: Row, peer: str) -> str:
    if peer not in row["reach"]:
        return ""
    seconds = row["reach"][peer]["seconds"]
    return "never" if seconds is None else f"{seconds:.1f}"


def _versions(rows: Sequence[Row]) -> str:
    """Versions of everything that took part, each once."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, one in row["versions"].items():
            found.setdefault(name, set()).add(one)
    return (
        "Versions: "
        + ", ".join(f"{name} {' and '.join(sorted(one))}" for name, one in sorted(found.items()))
        + "."
    )


def plot(tables: Mapping[str, Table], path: Path) -> None:
    """NDCG@10 of every system with its interval, a panel a board; the flagship is filled."""
    from jaxdecay.plots import Figure, save

    tallest = max(len(table) for table in tables.values())
    figure = Figure(figsize=(5.2 * len(tables), 1.2 + 0.3 * tallest), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for panel, (title, table) in zip(panels, tables.items(), strict=True):
        named = {name: one["ndcg@10"] for name, one in reversed(table.items()) if "ndcg@10" in one}
        for place, (name, row) in enumerate(named.items()):
            filled = name == FLAGSHIP
            panel.plot([row["low"], row["high"]], [place, place], color="#1a1a1a", lw=1.6 if filled else 1)
            panel.plot(
                row["value"],
                place,
                "o",
                color="#0072b2" if filled else "#1a1a1a",
                mfc=None if filled else "white",
            )
        panel.set_yticks(range(len(named)), list(named))
        panel.set_xlabel("NDCG@10, 95 % over users")
        panel.set_title(title, loc="left")
        panel.set_xlim(left=0)
    save(panels[0], path)


def head(heads: Sequence[str]) -> list[str]:
    return [line(heads), line(["---", *["---:"] * (len(heads) - 1)])]


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def interval(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return ""
    low, high = (("" if row[end] is None else f"{row[end]:.4f}") for end in ("low", "high"))
    return f"{row['value']:.4f} [{low}, {high}]"


def difference(row: Row | None) -> str:
    if row is None or row["difference"] is None:
        return ""
    return f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"


def _seeds(row: Row | None) -> str:
    if row is None or row["seeds"] == 1:
        return "1"
    return f"{row['seeds']}: {row['seed_low']:.4f} to {row['seed_high']:.4f}"


def _value(row: Row | None) -> str:
    return "" if row is None else plain(row["value"], 4)


def plain(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"
