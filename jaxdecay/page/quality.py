"""What was found, in three sentences, and the table behind it."""

from typing import Any

import polars as pl

from jaxdecay import pictures, plots
from jaxdecay.assess import ABLATION, MODEL
from jaxdecay.durations import show_days, show_periods
from jaxdecay.findings import Findings
from jaxdecay.page.html import Markup, Section, figure, paragraph, table, text
from jaxdecay.pictures import Whom
from jaxdecay.report import protocol_lines

_WORDS = {
    "similarity": "interest in a kind of thing",
    "revisit": "the wish to come back to the very same thing",
}
_GROUPS = ("repeats", "novelties")
_COHORTS = 3  # pictures of users told apart


def summary(found: Findings) -> Section:
    """Three sentences: how good, what fading is worth, how fast it is."""
    said = [_quality(found), _worth(found), _paces(found)]
    body = Markup(f'<div class="found">{"".join(paragraph(one) for one in said)}</div>')
    return Section("found", "What was found", [body])


def table_of(found: Findings) -> Section:
    """Every system, and the pictures of when each is right."""
    metric, systems = found.metric, found.evaluation["systems"]
    hits = metric.replace("ndcg", "hr")
    order = sorted(systems, key=lambda name: -(systems[name]["metrics"][metric]["value"] or 0))
    rows = [
        (
            name,
            interval(systems[name]["metrics"][metric]),
            interval(systems[name]["metrics"][hits]),
            *(interval(systems[name]["groups"].get(group, {}).get(metric)) for group in _GROUPS),
        )
        for name in order
    ]
    named = metric.upper()
    header = ("system", named, hits.upper(), f"{named}, repeats", f"{named}, novelties")
    body = [
        paragraph(
            f"{named} is 1 when the item that was taken next stands first in the list, and falls to 0 the "
            f"later it comes; {hits.upper()} is the share of lists that hold it. Repeats are items that the "
            "user had before, novelties all others. In brackets: 95 % intervals over users."
        ),
        table(header, rows, own=[order.index(MODEL)]),
        paragraph(". ".join(protocol_lines(found.evaluation["protocol"])) + ".", small=True),
    ]
    shown: list[tuple[str, str | None, str]] = [
        ("calibration", None, "What came next by the age of that interest, and what the model had expected."),
        ("staleness", None, "Quality by how long the user was away before the request."),
    ]
    if ABLATION in systems:
        shown.append(("ablation", None, "With decay and without, by the age of the interest that came back."))
        for by in plots.cohorts(found.evaluation)[:_COHORTS]:
            said = "by how many events the user had" if by == "activity" else f"by “{by}” of the user"
            shown.append(("ablation", by, f"With decay and without, {said}."))
    body += [figure(pictures.draw(kind, found, Whom(by=by)), caption) for kind, by, caption in shown]
    return Section("table", "How good it is", body)


def interval(figure: dict[str, Any] | None) -> str:
    """``0.431 [0.391, 0.472]``, which does not break."""
    if not figure or figure["value"] is None:
        return ""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return f"{value:.3f}" + ("" if low is None or high is None else f"\xa0[{low:.3f},\xa0{high:.3f}]")


def _quality(found: Findings) -> Markup:
    protocol, systems, metric = found.evaluation["protocol"], found.evaluation["systems"], found.metric
    k, own = protocol["k"][0], systems[MODEL]["metrics"]
    others = [name for name in systems if name not in (MODEL, ABLATION)]
    best = max(others, key=lambda name: systems[name]["metrics"][metric]["value"] or 0)
    hits = own[f"hr@{k}"]["value"]
    return text(
        f"Asked {protocol['requests']:,} times what {protocol['users']:,} users would take next out of up to "
        f"{protocol['items']:,} items, the model had it among its first {k} in {hits:.0%} of cases "
        f"({metric.upper()} {interval(own[metric])}), {_against(found, best)} the best of {len(others)} "
        f"simpler systems, “{best}” ({interval(systems[best]['metrics'][metric])})."
    )


def _worth(found: Findings) -> Markup:
    systems, metric = found.evaluation["systems"], found.metric
    if ABLATION not in systems:
        return text("What fading is worth was not measured: the same model without decay was not evaluated.")
    figure = interval(systems[ABLATION]["metrics"][metric])
    return text(
        f"With decay it is {_against(found, ABLATION)} the very same model in which nothing ever fades "
        f"({figure})."
    )


def _against(found: Findings, other: str) -> str:
    """``clearly better (by 0.021 [0.014, 0.028]) than``, by the paired difference over users."""
    wanted = {"system": other, "reference": MODEL, "metric": found.metric, "group": "all"}
    wanted |= {"time": "given", "reference_time": "given"}
    for one in found.evaluation["differences"]:
        if wanted.items() <= one.items() and one["low"] is not None:
            value, low, high = -one["value"], -one["high"], -one["low"]
            by = f"(by {value:+.3f} [{low:+.3f}, {high:+.3f}])"
            if low > 0:
                return f"clearly better {by} than"
            return f"clearly worse {by} than" if high < 0 else f"neither clearly better nor worse {by} than"
    return "beside"


def _paces(found: Findings) -> Markup:
    """A sentence for each head, and what both of their ages mean."""
    half_lives, _ = found.half_lives
    whole = half_lives.filter(pl.col("group") == "all", pl.col("head") != "popularity")
    if not len(whole):
        return text("Nothing fades in this model.")
    behind = dict(found.memory.filter(pl.col("group") == "all").select("head", "days_50").iter_rows())
    said = []
    for row in whole.iter_rows(named=True):
        words = f"{_WORDS[row['head']]} {_halved(row, found.span)}{_rhythm(row)}"
        if (days := behind.get(row["head"])) is not None:
            words += f", and one half of all its weight lies with events older than {show_days(days)}"
        said.append(words[:1].upper() + words[1:] + _ends(half_lives.filter(head=row["head"])) + ".")
    said.append(
        "(The first age says how fast a single event fades, the second also how many old ones there are.)"
    )
    if found.blocks and "similarity" in whole["head"]:
        said.append(
            "Of interest in a kind of thing this is only the last step: the encoder before it remembers, "
            "too, and for how long these ages do not say."
        )
    return text(" ".join(said))


def _halved(row: dict[str, Any], span: float) -> str:
    if row["half_life_days"] <= span:
        return f"has fallen to one half after {with_interval(row)}"
    curve = with_interval(row)
    beyond = "its curve never does" if curve == "never" else f"its curve does after {curve}"
    return (
        f"does not fall to one half within the {show_days(span)} that training looked over ({beyond}: longer "
        "than the log can show)"
    )


def _ends(of_head: pl.DataFrame) -> str:
    """The groups that fade fastest and slowest under one head, where their intervals lie apart."""
    groups = of_head.filter(pl.col("group") != "all").sort("half_life_days")
    if len(groups) < 2:
        return ""
    first, last = groups.row(0, named=True), groups.row(-1, named=True)
    if first["high"] is None or last["low"] is None or first["high"] >= last["low"]:
        return ""
    return (
        f"; of the groups, {first['group']} fades fastest here ({with_interval(first)}) and {last['group']} "
        f"slowest ({with_interval(last)})"
    )


def _rhythm(row: dict[str, Any]) -> str:
    periods = show_periods(row["periods_days"], row["widths_days"])
    rhythms = "rhythms" if len(row["periods_days"]) > 1 else "a rhythm"
    return f" (and then comes back in {rhythms} of {periods})" if periods else ""


def with_interval(row: dict[str, Any]) -> str:
    """``14.1 h [12.0 h, 16.6 h]``, without the brackets where there is no interval."""
    shown = show_days(row["half_life_days"])
    return shown if row["low"] is None else f"{shown} [{show_days(row['low'])}, {show_days(row['high'])}]"
