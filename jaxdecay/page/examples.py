"""Some users, drawn by the seed, and those whose interests moved."""

import numpy as np

from jaxdecay import moments, pictures
from jaxdecay.durations import show_days
from jaxdecay.explain import Explanation
from jaxdecay.findings import Findings
from jaxdecay.page.html import Markup, Section, bullets, figure, heading, paragraph, table
from jaxdecay.pictures import Whom

_EVENTS = 10  # that an example has at least, if anybody has
_LIST = 5
_NAMED = 8
_TINY = 1e-6  # logits: a past that adds less adds nothing
_CHANGES = {
    "emerging": "something new came up",
    "returning": "something from long ago came back",
    "shifting": "weight moved between what was there all the time",
    "vanishing": "something went, and nothing in particular came",
}


def examples(found: Findings, users: int) -> Section:
    """``users`` of them: interests in time, a list, and why each item stands there."""
    lengths = found.histories.lengths()
    least = min(_EVENTS, int(lengths.max()))
    rich = np.flatnonzero(lengths >= least)
    drawn = np.random.default_rng(found.seed).choice(rich, min(users, len(rich)), replace=False)
    when = "right after their last events" if found.end is None else f"at {moments.iso(found.end)}"
    if found.blocks:
        reasons = (
            "shares of what speaks for it, each event left out by itself, and how many times as likely all "
            "of the past together makes the item"
        )
    else:
        reasons = (
            "shares of what speaks for it among past events, and how many times as likely all of the past, "
            "with what speaks against it, makes the item"
        )
    body = [
        paragraph(
            f"Drawn by chance (seed {found.seed}) among the {len(rich):,} users with at least "
            f"{least} events, not chosen. Lists are those asked for {when}. Why an item stands there: "
            f"{reasons}."
        )
    ]
    rests = []
    for user in drawn:
        shown, explained = _example(found, int(user))
        body += shown
        rests += [abs(one.not_attributed) / max(abs(one.of_the_past), _TINY) for one in explained]
    if found.blocks and rests:
        body.append(
            paragraph(
                "What the events of these lists add one by one differs from what the past adds altogether by "
                f"{np.median(rests):.0%} of the latter, at the median: events act together, and the shares "
                "above are of what single ones do."
            )
        )
    return Section("examples", "Some users", body)


def _example(found: Findings, user: int) -> tuple[list[Markup], list[Explanation]]:
    who = found.run.users[user]
    begin, end = found.histories.offsets[user : user + 2]
    time = np.asarray(found.histories.time)[begin:end]
    first, last = (moments.iso(int(seconds))[:10] for seconds in (time[0], time[-1]))
    span = "" if found.relative else f", {first} to {last}"
    listed = found.run.recommend([who], min(_LIST, found.histories.items), found.end)
    reasons = found.run.reasons(who, listed["item_id"].to_list(), found.end)
    shown = [
        heading(f"User {who}: {end - begin} events{span}"),
        figure(
            pictures.draw("trajectory", found, Whom(user=who)),
            f"Interests of user {who} by {_called(found)}, lately (half-life {_days(found, 0)}) and before "
            f"({_days(found, 1)}).",
        ),
        paragraph("What the model would list, and why:"),
        bullets([reason.sentence() for reason in reasons], numbered=True),
    ]
    return shown, reasons


def drift(found: Findings) -> Section:
    """How many users drifted, what the changes are called, and one of them drawn."""
    detections, watched, alarmed = found.watched.detections, found.watched.watched, found.watched.alarmed
    body = [
        paragraph(
            f"{alarmed:,} of {watched:,} watched users ({alarmed / watched:.0%}) were alarmed at least once: "
            f"what they did lately (half-life {_days(found, 0)}) stands further from what they did before "
            f"({_days(found, 1)}) than chance explains. The threshold, {found.drift.threshold:.2f}, is the "
            "one at which 5 % of the same users would be alarmed with their events in random order, eight in "
            "a row together."
        ),
        paragraph(
            "An alarm is not yet a move. Whoever does one thing for longer than eight events in a row, on a "
            "trip, in a season, in a burst, is alarmed, too, and goes back to what was before. In a log "
            "whose events come in bursts most alarms are bursts. Only what comes after an alarm can say "
            "whether somebody moved."
        ),
    ]
    if not len(detections):
        return Section("drift", "When interests moved", body)
    counts = detections["change"].value_counts(sort=True)
    rows = [(change, _CHANGES[change], f"{count:,}") for change, count in counts.iter_rows()]
    body.append(table(("change", "which means", "detections"), rows))
    moved = detections.explode("rising").drop_nulls("rising")["rising"].value_counts(sort=True).head(_NAMED)
    if found.kinds.column and len(moved):
        rising = ", ".join(f"{name} ({count:,})" for name, count in moved.iter_rows())
        body.append(paragraph(f"What rose most often, by {_called(found)}: {rising}."))
    alarmed_users = detections["user_id"].unique(maintain_order=True)
    who = alarmed_users[int(np.random.default_rng([found.seed, 1]).integers(alarmed))]
    body.append(
        figure(
            pictures.draw("drift", found, Whom(user=who)),
            f"The statistic of user {who}, drawn by chance among those alarmed; without drift it is about 1.",
        )
    )
    return Section("drift", "When interests moved", body)


def _called(found: Findings) -> str:
    return f"“{found.kinds.column}”" if found.kinds.column else "item"


def _days(found: Findings, which: int) -> str:
    return show_days(found.drift.half_lives[which])
