"""The systems of the table, a line each: what they change of the flagship's options, and what is tuned.

A model is ``ModelOptions(**model)`` and ``TrainOptions(**train)``; everything not named keeps its default,
but that half-lives do not settle after early stopping: the table is one of rankings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from jaxdecay.baselines import BASELINES
from jaxdecay.errors import InputError
from jaxdecay.model_options import ENCODERS, ModelOptions
from jaxdecay.train import TrainOptions

Configuration = dict[str, Any]
Overrides = Mapping[str, Any]
_NONE: Overrides = MappingProxyType({})


@dataclass(frozen=True)
class Candidate:
    """One point of a tuning grid, over a system's own overrides."""

    model: Overrides = field(default_factory=dict)
    train: Overrides = field(default_factory=dict)
    peer: Overrides = field(default_factory=dict)


_LATELY: Overrides = MappingProxyType({"evidence_half_life": 0.5})
_IN_TIME: Overrides = MappingProxyType({"loss": "sampled-softmax", "order": "time", "epochs": 1})
GRID = (
    Candidate(),
    Candidate(train=_LATELY),
    Candidate(model={"preset": "base"}),
    Candidate(train=_IN_TIME),
)
"""Every trained system has as many candidates, but where some come to the same (on a relative clock, without
an encoder); the first ``--budget`` different ones are tried. Ablations beside the flagship take the one that
it has chosen."""
REFERENCE_GRID = (
    Candidate(model={"preset": "base"}),
    Candidate(model={"preset": "base"}, train=_LATELY),
    Candidate(model={"preset": "base", "features": 32, "dropout": 0.3}),
    Candidate(model={"preset": "base"}, train={"learning_rate": 1e-3}),
)
PEER_GRID = (
    Candidate(peer={"factors": 64, "rate": 1e-3}),
    Candidate(peer={"factors": 128, "rate": 1e-3}),
    Candidate(peer={"factors": 64, "rate": 3e-3}),
    Candidate(peer={"factors": 128, "rate": 3e-4}),
)


@dataclass(frozen=True)
class Entry:
    """One system of the table."""

    name: str
    kind: Literal["model", "baseline", "peer", "lists"] = "model"
    group: Literal["flagship", "ablations", "references", "baselines", "peers"] = "ablations"
    model: Overrides = field(default_factory=dict)
    train: Overrides = field(default_factory=dict)
    peer: Overrides = field(default_factory=dict)
    """Options of scripts/peers/rectools_rank.py."""
    grid: tuple[Candidate, ...] = GRID
    lists: str = ""
    """Parquet file of lists that somebody else made."""

    @property
    def rival(self) -> bool:
        """Whether it stands against the flagship, and is no part of it."""
        return self.group in ("references", "baselines", "peers")


FLAGSHIP = "jaxdecay"
_BANK = {"per_item": False, "per_user": False, "periods": ()}
_BARE = {
    "revisit": False,
    "popularity": False,
    "calendar": False,
    "half_lives": "none",
    "request_time": "ignored",
}
_TIMED = {"request_time": "used"}
_SASREC, _HSTU = ({"encoder": kind, "read": "last"} for kind in ("transformer", "hstu"))

ENTRIES = (
    Entry(FLAGSHIP, group="flagship"),
    # What each piece of it adds.
    Entry("no decay", model={"half_lives": "none"}),
    Entry("fixed decay", model={"half_lives": "initial"}),
    Entry("one learned rate a bank", model={"modes": 1, "floor": False} | _BANK),
    Entry("bank", model=_BANK),
    Entry("bank + per item", model={"per_user": False, "periods": ()}),
    Entry("bank + per user", model={"per_item": False, "periods": ()}),
    Entry("bank + per item + per user", model={"periods": ()}),
    Entry("no encoder", model={"encoder": "none"}),
    Entry("no cold items", model={"cold_items": False}),
    Entry("request time withheld", model={"request_time": "ignored"}),
    # Other encoders in the same framework, bare and with the same heads.
    Entry("SASRec, bare", group="references", model=_SASREC | _BARE, grid=REFERENCE_GRID),
    Entry("SASRec, same heads", group="references", model=_SASREC, grid=REFERENCE_GRID),
    Entry("HSTU, bare", group="references", model=_HSTU | _BARE | _TIMED, grid=REFERENCE_GRID),
    Entry("HSTU, same heads", group="references", model=_HSTU, grid=REFERENCE_GRID),
    *(Entry(name, "baseline", "baselines", grid=(Candidate(),)) for name in BASELINES),
    Entry("RecTools SASRec", "peer", "peers", peer={"model": "sasrec"}, grid=PEER_GRID),
    Entry("RecTools HSTU", "peer", "peers", peer={"model": "hstu"}, grid=PEER_GRID),
)


def configurations(
    entry: Entry, *, clock: str, budget: int, overrides: Overrides = _NONE
) -> list[Configuration]:
    """The configurations of a system that tuning tries, different ones only; what caches are keyed by.

    ``overrides``: over every system's own, ``features`` of models, ``train.epochs`` of their training,
    ``peer.epochs`` of peers.
    Raises InputError for options that do not go together.
    """
    found: list[Configuration] = []
    for candidate in entry.grid:
        one = _configuration(entry, candidate, clock, overrides)
        if one not in found and len(found) < budget:
            found.append(one)
    return found


def candidate_of(
    entry: Entry, configuration: Configuration, *, clock: str, overrides: Overrides = _NONE
) -> Candidate:
    """The point of the grid that makes this configuration."""
    return next(c for c in entry.grid if _configuration(entry, c, clock, overrides) == configuration)


REVISIONS = {"model": 3, "baseline": 1, "peer": 2}
"""To be raised when what a configuration means has changed in code: rows from before are then made anew."""


def _configuration(entry: Entry, candidate: Candidate, clock: str, overrides: Overrides) -> Configuration:
    if entry.kind == "baseline":
        return _revised({"kind": "baseline", "baseline": entry.name})
    if entry.kind == "peer":
        peer = {**entry.peer, **candidate.peer, **_under("peer.", overrides)}
        return _revised({"kind": "peer", "peer": peer})
    model = {name: value for name, value in overrides.items() if "." not in name}
    model = {**entry.model, **candidate.model, **model}
    still = model.get("half_lives") == "none" and model.get("encoder") != "hstu"
    if still and (clock == "relative" or not model.get("calendar", True)):
        model["request_time"] = "ignored"  # nothing is left that moves with time
    if clock == "relative":
        model.pop("cold_items", None)  # without a clock of the log nothing comes after training
    if model.get("encoder") == "none":
        model = {name: value for name, value in model.items() if name not in ENCODERS}
    timed = (
        {**_LATELY, **_IN_TIME} if clock == "relative" else {}
    )  # which targets are the latest nothing tells
    tuned = {name: value for name, value in candidate.train.items() if name not in timed}
    train: dict[str, Any] = {"settle_epochs": 0, **entry.train, **tuned}
    train |= _under("train.", overrides)
    try:
        made = asdict(ModelOptions(**model).resolved())
        how = asdict(TrainOptions(**train))
    except (TypeError, InputError) as error:
        raise InputError(f"system {entry.name!r} cannot be made: {error}") from None
    how.pop("seed")
    return _revised({"kind": "model", "model": made, "train": how})


def _revised(configuration: Configuration) -> Configuration:
    """With the revision of its kind, from the second on."""
    revision = REVISIONS[configuration["kind"]]
    return configuration | ({"revision": revision} if revision > 1 else {})


def _under(prefix: str, overrides: Overrides) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in overrides.items() if k.startswith(prefix)}


def choose(names: Sequence[str], *, peers: bool) -> list[Entry]:
    """The entries of these names or groups, in the order of the table; "all" is all but peers, which need
    ``peers``."""
    by_group: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        by_group.setdefault(entry.group, []).append(entry)
    chosen: set[str] = set()
    for name in names:
        if name == "all":
            chosen |= {entry.name for entry in ENTRIES if peers or entry.kind != "peer"}
        elif name in by_group:
            chosen |= {entry.name for entry in by_group[name]}
        elif any(entry.name == name for entry in ENTRIES):
            chosen.add(name)
        else:
            words = ", ".join(["all", *by_group, *(entry.name for entry in ENTRIES)])
            raise InputError(f"--systems {name!r}: there is no such system; there are {words}")
    return [entry for entry in ENTRIES if entry.name in chosen]


def listed_entries(lists: Sequence[str]) -> Iterator[Entry]:
    """Entries of ``NAME=FILE`` words."""
    names: set[str] = set()
    for word in lists:
        name, equals, file = word.partition("=")
        if not (name and equals and file):
            raise InputError(f"--lists {word!r}: give NAME=FILE, a Parquet file of ranked lists")
        if any(entry.name == name for entry in ENTRIES):
            raise InputError(f"--lists {word!r}: {name!r} is a system of the table; give another name")
        if name in names:
            raise InputError(f"--lists {word!r}: there is a {name!r} already; give another name")
        names.add(name)
        yield Entry(name, "lists", "peers", grid=(Candidate(),), lists=file)
