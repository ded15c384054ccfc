"""On which data all this holds, and what was not measured."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxdecay import moments, pictures
from jaxdecay.assess import ABLATION, MODEL
from jaxdecay.durations import show_days
from jaxdecay.findings import Findings
from jaxdecay.model_options import ModelOptions
from jaxdecay.page.html import Section, bullets, figure, paragraph, table

_DAY = 86_400
_PARTS = {0: "training", 1: "validation", 2: "test", 3: "after training"}


def data(found: Findings) -> Section:
    """The log, its parts, the model and its training."""
    config = found.run.config
    body = [
        table(("", ""), _log(found)),
        table(("part", "events", "users", "from", "to"), _parts(found)),
        paragraph(
            "Everything fitted or counted comes from training; validation chose when to stop and the "
            "settings of the baselines; the table is of test, by which nothing was chosen."
        ),
        table(("the model and its training", ""), _model(config)),
        figure(pictures.draw("training", found), "Quality on validation after each epoch."),
    ]
    if all("half_lives" in line for line in found.lines) and any(line["half_lives"] for line in found.lines):
        body.append(figure(pictures.draw("training-half-lives", found), "Half-lives after each epoch."))
    return Section("data", "Data, split and training", body)


def caveats(found: Findings) -> Section:
    """What the figures do not say."""
    return Section("caveats", "What was not measured", [bullets(_caveats(found))])


def _log(found: Findings) -> list[tuple[str, str]]:
    histories = found.histories
    time = np.asarray(histories.time)
    first, last = int(time.min()), int(time.max())
    span = f"{moments.iso(first)} to {moments.iso(last)}"
    rows = [
        ("users, items, events", f"{histories.users:,}, {histories.items:,}, {histories.events:,}"),
        ("span", show_days((last - first) / _DAY) if found.relative else span),
        ("repeats in training", f"{histories.repeat_share:.1%}"),
        ("events of a user", f"{int(np.median(histories.lengths()))} at the median"),
        ("fingerprint", str(histories.config["fingerprint"])),
    ]
    report = histories.config.get("report", {})
    if read := report.get("read"):
        dropped = {**read["dropped"], "duplicates": report["clean"]["duplicates"]}
        words = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in dropped.items() if count)
        rows.append(("rows read; dropped", f"{read['rows_read']:,}; {words or 'none'}"))
    return rows


def _parts(found: Findings) -> Iterator[tuple[str, ...]]:
    histories, user = found.histories, found.histories.user()
    time, part = np.asarray(histories.time), np.asarray(histories.part)
    for number, name in _PARTS.items():
        mine = part == number
        if mine.any():
            ends = int(time[mine].min()), int(time[mine].max())
            dates = ("", "") if found.relative else [moments.iso(end)[:10] for end in ends]
            yield name, f"{int(mine.sum()):,}", f"{len(np.unique(user[mine])):,}", *dates


def _model(config: dict[str, Any]) -> list[tuple[str, str]]:
    options, train = ModelOptions.from_json(config["model"]), config["train"]
    blocks = config["spec"]["encoder"]["blocks"]
    return [
        ("preset; encoder", f"{options.preset}; {options.size.encoder}{f' ({blocks} deep)' * (blocks > 0)}"),
        ("length of item vectors", str(options.size.features)),
        ("half-lives", str(config["half_lives"]["how"])),
        ("epochs at most; seed", f"{train['epochs']}; {train['seed']}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in config["versions"].items())),
    ]


def _caveats(found: Findings) -> Iterator[str]:
    protocol, systems = found.evaluation["protocol"], found.evaluation["systems"]
    yield (
        "Nobody was shown these lists: they are compared with what users did anyway. Whether they would "
        "please, or sell, only an experiment says."
    )
    yield (
        f"The model was trained once, with seed {found.run.config['train']['seed']}: intervals are over "
        "users, and do not say by how much another seed would differ."
    )
    yield from protocol["warnings"]
    if protocol["split"] != "global-time":
        yield f"The split ({protocol['split']}) lets training see what happened after some of the requests."
    if protocol["sample"] != "all":
        yield f"Not all requests were asked: {protocol['sample']}."
    if ABLATION not in systems:
        yield "The same model without decay was not evaluated, so what decay is worth is not known."
    withheld = systems[MODEL]["withheld"].get(found.metric)
    if withheld and withheld["value"] is not None:
        yield (
            f"The model was told when each request was made. Told the time of the last event instead, "
            f"{found.metric.upper()} is {withheld['value']:.3f}."
        )
    if found.half_lives[1] is not None:
        yield (
            "Intervals of half-lives hold in first order, with the vectors of items as they are, and are not "
            "from whole trainings."
        )
    if found.blocks:
        yield (
            "Reasons come from leaving events out one by one: events that stand in for each other count for "
            "little, and what they do only together is listed nowhere. Percentages are shares of what speaks "
            "for an item so; what speaks against it is in “how many times as likely”, but not listed. They "
            "say what the model goes by, not why people do what they do."
        )
    else:
        yield (
            "Reasons come from the way from no event to all of them, along which all grow together: what "
            "each adds on that way adds up to what the past makes of the score, with the weights by which "
            "this user reads held as they are. Percentages are shares of what speaks for an item among past "
            "events; what speaks against it is in “how many times as likely”, but not listed. They say what "
            "the model goes by, not why people do what they do."
        )
    yield (
        "Drift is watched in vectors that were learned from the same log, and its threshold holds for users "
        "whose events come in random order, eight in a row together: longer bursts are alarms, too, and not "
        "every alarm is a move."
    )
    yield (
        "Fairness between groups of users or items, diversity of the lists, and what lists do to those who "
        "follow them were not looked at on this page."
    )
    if not found.titles:
        yield "The log has no titles: items stand here by their ids."
