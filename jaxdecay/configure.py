"""From options and data to a `Spec`: half-lives spread over the data's own ages, table sizes, and which
heads make sense.

Everything is taken from the training part.
"""

import itertools

import numpy as np

from jaxdecay import fading
from jaxdecay.data.histories import Histories
from jaxdecay.durations import Rhythm, days, parse_rhythm
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.names import perhaps
from jaxdecay.spec import Encoder, Spec, Table

_DAY = 86_400.0
_HEADS = 4  # of an encoder of decayed states, on each clock
_STEPS = (0.5, 2.0, 8.0, 32.0)  # events: half-lives of the heads that count them


def configure(histories: Histories, options: ModelOptions) -> Spec:
    """The spec of a model for this log."""
    encoders = histories.config["features"]
    group_column, groups = _groups(histories, options)
    if not _has(_table(encoders, "item", options.columns)):
        for name, plain in (("item_ids", True), ("fusion", "sum"), ("by_content", False)):
            if getattr(options, name) != plain:
                raise InputError(
                    f"{name}={getattr(options, name)!r} needs item columns: give --items to prepare, or leave"
                    " it out"
                )
    still = options.half_lives == "none"
    own = tuple(days(text) for text in options.half_life)
    if options.half_lives in ("initial", "fixed", "none") and options.half_life_prior:
        raise InputError(
            f"half_life_prior: half_lives={options.half_lives!r} learns none; leave one of them out"
        )
    if still and own:
        raise InputError("half_life: half_lives='none' lets nothing fade; leave one of them out")
    if options.half_lives == "fixed" and not own:
        raise InputError("half_lives='fixed' needs --half-life, such as --half-life 7d")
    revisit = options.revisit and histories.repeat_share >= 0.001
    fixed = options.half_lives == "fixed"
    half_lives = () if still else own or spread(histories, options.modes)
    rhythms = [] if still or fixed or not revisit else _visible_rhythms(histories, options)
    return Spec(
        items=histories.known_items,
        users=histories.known_users,
        behaviours=max(1, len(histories.config["behaviours"])),
        features=options.size.features,
        similarity_half_lives=half_lives,
        revisit_half_lives=half_lives if revisit else (),
        revisit_periods=tuple(rhythm.period for rhythm in rhythms),
        revisit_sharpness=tuple(rhythm.sharpness for rhythm in rhythms),
        popularity_half_lives=_popularity_half_lives(histories, options, own) if options.popularity else (),
        revisit=revisit,
        groups=groups,
        group_column=group_column,
        per_item=options.per_item and not (still or fixed),
        per_user=options.per_user and not (still or fixed),
        per_behaviour=options.per_behaviour and not still and len(histories.config["behaviours"]) > 1,
        adaptive=options.adaptive and not still,
        calendar=options.calendar and histories.clock != "relative",
        item_columns=_table(encoders, "item", options.columns),
        user_columns=_table(encoders, "user", options.columns),
        context_columns=_table(encoders, "context", options.columns),
        request_time=options.request_time,
        floor=options.floor and not fixed,
        recovery=_recovery(histories, still or fixed) if revisit and options.satiation else 0.0,
        encoder=_encoder(histories, options, half_lives),
        cold_items=options.cold_items and histories.clock != "relative",
        item_ids=options.item_ids,
        fusion=options.fusion,
        by_content=options.by_content,
        fades_by_content=options.by_content and not (still or fixed),
    )


def _has(table: Table) -> bool:
    return bool(table.cardinalities or table.numeric)


def _encoder(histories: Histories, options: ModelOptions, half_lives: tuple[float, ...]) -> Encoder:
    size, never, last = options.size, (float("inf"),), options.read == "last"
    if size.encoder == "none":
        return Encoder(bank=not last)
    decayed, attends = size.encoder == "bank", size.encoder in ("transformer", "hstu")
    timed = size.encoder == "transformer" and options.attention_bias != "position"
    heads = 2 * _HEADS if decayed else options.heads if attends else 1
    if size.features % heads:
        raise InputError(
            f"features={size.features} with encoder={size.encoder!r}: give a multiple of its {heads} heads"
        )
    ends = never if options.floor and options.half_lives != "fixed" else ()
    timely = _HEADS if decayed else options.heads  # heads with half-lives
    most = max(1, timely - len(ends))
    if half_lives and not options.half_life:
        half_lives = spread(histories, min(options.modes, most))
    elif len(half_lives) > most:
        half_lives = tuple(
            half_lives[i] for i in np.linspace(0, len(half_lives) - 1, most).round().astype(int)
        )
    # Heads that are too many for the half-lives begin at the same ones.
    days = (half_lives + ends) or never
    return Encoder(
        kind=size.encoder,
        blocks=size.blocks,
        heads=options.heads,
        half_lives=tuple(itertools.islice(itertools.cycle(days), timely)) if decayed or timed else (),
        steps=() if not decayed else _HEADS * never if options.half_lives == "none" else _STEPS,
        dropout=size.dropout,
        context=options.context if attends else 0,
        bank=not last,
        precision=size.precision,
        remat=size.remat,
        span=options.span if size.encoder == "cnn" else 0,
        bias=options.attention_bias if size.encoder == "transformer" else "position",
    )


def _gaps(histories: Histories) -> np.ndarray:
    """Seconds between successive training events of a user, but for the simultaneous."""
    train = histories.part == 0
    user, time = histories.user()[train], np.asarray(histories.time)[train]
    gaps = np.diff(time)[np.diff(user) == 0]
    return gaps[gaps > 0]


def _recovery(histories: Histories, still: bool) -> float:
    """Days from which on the half-life of satiation is learned: the median gap. Where nothing fades it does
    not either."""
    gaps = _gaps(histories)
    return float("inf") if still or not len(gaps) else float(np.median(gaps)) / _DAY


def spread(histories: Histories, modes: int) -> tuple[float, ...]:
    """Half-lives in days over the ages of a log's training part (`jaxdecay.fading.spread`), none below a
    minute."""
    train = histories.part == 0
    user, time = histories.user()[train], np.asarray(histories.time)[train]
    spans = np.zeros(histories.users, np.int64)
    np.maximum.at(spans, user, time - time[np.searchsorted(user, user)])
    gaps = np.maximum(_gaps(histories), 60)
    return fading.spread(gaps / _DAY, spans / _DAY, modes)


def _visible_rhythms(histories: Histories, options: ModelOptions) -> list[Rhythm]:
    """Rhythms that fit three times into the log's span and are no sharper than its clock."""
    time = np.asarray(histories.time)[histories.part == 0]
    span = int(time.max() - time.min()) if len(time) else 0
    gaps = np.diff(np.unique(time[:: max(1, len(time) // 100_000)]))
    tick = int(np.gcd.reduce(gaps)) if len(gaps) else 1
    rhythms = dict.fromkeys(map(parse_rhythm, options.periods))
    return [one for one in rhythms if 3 * one.period * _DAY <= span and tick <= one.width * _DAY]


def _popularity_half_lives(
    histories: Histories, options: ModelOptions, own: tuple[float, ...]
) -> tuple[float, ...]:
    """Counts that never fade, and with a clock of its own for the catalogue four half-lives over the log's
    span, from the time that a thousand events take on if there are so many in so short a time."""
    if histories.clock == "relative":  # totals would count the target itself; the item bias knows them
        return ()
    if options.half_lives == "none":
        return (float("inf"),)
    if options.half_lives == "fixed":
        return own
    time = np.asarray(histories.time)[histories.part == 0]
    span = max(float(time.max() - time.min()), 3600.0) / _DAY if len(time) else 1.0
    events = max(1 / 1440, 1000 * span / max(len(time), 1))
    low = min(max(1 / 24, min(1.0, span / 200)), events)
    return (*(float(h) for h in np.geomspace(low, max(span / 2, 2 * low), 4)), float("inf"))


def _groups(histories: Histories, options: ModelOptions) -> tuple[int, int]:
    """Place and number of levels of the item column by which decay differs; (0, 0) for none."""
    encoder = histories.config["features"].get("item") or {}
    names, sizes, widths = (encoder.get(k) or [] for k in ("categorical_names", "cardinalities", "widths"))
    single = [i for i, width in enumerate(widths) if width == 1]
    if options.group_by == "none":
        return 0, 0
    if options.group_by is None:
        if options.half_lives in ("fixed", "none"):
            return 0, 0
        small = [i for i in single if sizes[i] <= 65]
        if len(small) != 1:
            return 0, 0
        column = small[0]
    else:
        if options.group_by not in [names[i] for i in single]:
            raise InputError(
                f"group_by={options.group_by!r} is no single-valued categorical item column; "
                f"{perhaps(options.group_by, [names[i] for i in single])}"
            )
        column = names.index(options.group_by)
    if options.half_lives == "none":
        return 0, 0
    return int(sum(widths[:column])), int(sizes[column])


def _table(encoders: dict, kind: str, wanted: bool) -> Table:
    encoder = encoders.get(kind)
    if not encoder or not wanted:
        return Table()
    return Table(tuple(encoder["cardinalities"]), tuple(encoder["widths"]), len(encoder["numeric_names"]))


def group_levels(histories: Histories, spec: Spec) -> list[str]:
    """Names of the item groups in the order of their codes from 1; empty without groups."""
    if not spec.groups:
        return []
    encoder = histories.config["features"]["item"]
    place = list(np.cumsum([0, *encoder["widths"]])).index(spec.group_column)
    coded = encoder["encoder"]["coded"][place]
    return [str(name) for name in coded.get("values", range(1, spec.groups))]
