"""How fast interest fades, and what is remembered."""

from jaxdecay import pictures
from jaxdecay.durations import show_days, show_periods
from jaxdecay.findings import Findings
from jaxdecay.half_lives import TOLD
from jaxdecay.page.html import Markup, Section, figure, paragraph, table
from jaxdecay.page.quality import with_interval

_HEADS = {
    "similarity": "interest in a kind of thing (similarity)",
    "revisit": "coming back to the very same thing (revisit)",
    "popularity": "what everybody takes (popularity)",
}
_HOW = {
    "learned": "Nobody set these: they were learned together with everything else.",
    "initial": "They were not learned: they stand where the ages of the log put them, with learned weights.",
    "fixed": "They were not learned, but given.",
    "cross-validated": "They were not learned, but chosen over rolling folds of the training part.",
    "none": "Here nothing was allowed to fade.",
}


def half_lives(found: Findings) -> Section:
    """The half-lives with their intervals, and how kernels moved in training."""
    frame, words = found.half_lives
    rows = [
        (
            _HEADS[row["head"]],
            row["group"],
            with_interval(row) + (" (longer than the log)" if row["half_life_days"] > found.span else ""),
            f"{row['events']:,}",
            show_periods(row["periods_days"], row["widths_days"]),
        )
        for row in frame.iter_rows(named=True)
    ]
    intervals = f"In brackets: {words}." if words else "There are no intervals of what was not learned."
    body = [
        paragraph(
            "A half-life is the age at which what an event says of the present has first fallen to one half. "
            f"{_HOW[found.run.config['half_lives']['how']]} {intervals} Rhythms are told where they have at "
            f"least {TOLD:.0%} of the weight."
        ),
        paragraph(
            f"Training looked over {show_days(found.span)}, and no event was older. A half-life longer than "
            "the log is where the curve leads, not what was seen: that it is longer is all that the log says."
        ),
        *_behind_encoder(found),
        table(("what fades", "group", "half-life", "events", "rhythms"), rows),
    ]
    if rows:
        body.append(figure(pictures.draw("half-lives", found), "Half-lives by head and group."))
    if frame["head"].is_in(["similarity", "revisit"]).any():
        body += [
            figure(
                pictures.draw("kernels", found),
                "What is left of an event by its age, before training and after it. Where items differ "
                "enough to be seen, a dark band holds 80 % of the events, each with its item's kernel; it is "
                "no interval. Where rhythms become too fine to draw, lines pass over to their means, and a "
                "pale band is how far they swing.",
            ),
            figure(
                pictures.draw("spread", found),
                "How half-lives lie over items and over users, each as often as it has events.",
            ),
        ]
    return Section("half-lives", "How fast interest fades", body)


def _behind_encoder(found: Findings) -> list[Markup]:
    if not found.blocks or "similarity" not in found.half_lives[0]["head"]:
        return []
    blocks = "1 block" if found.blocks == 1 else f"{found.blocks} blocks"
    return [
        paragraph(
            f"Interest in a kind of thing stands behind an encoder of {blocks}, which reads every event "
            "together with those before it. What fades here is what the encoder makes of an event; how "
            "long the encoder itself remembers is in none of these figures. Coming back and what everybody "
            "takes go by the events themselves."
        )
    ]


def memory(found: Findings) -> Section:
    """Effective memory."""
    rows = [
        (_HEADS[row["head"]], row["group"], *(show_days(row[name]) for name in ("days_50", "days_90")))
        for row in found.memory.iter_rows(named=True)
    ]
    body = [
        paragraph(
            "How far back the model looks in effect: one half of the weight of the past lies with events "
            "younger than the first age, nine tenths with those younger than the second. A half-life says "
            "how fast one event fades; this also depends on how often people do something."
        ),
        table(("what fades", "group", "50 % of the weight is younger than", "90 %"), rows),
    ]
    if rows:
        body.append(figure(pictures.draw("memory", found), "What is remembered."))
    return Section("memory", "What is remembered", body)
