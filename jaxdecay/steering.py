"""What a list is to be besides its best scores, as a user says it: diverse, of few items of a kind, with a
share of the exposure for a group, or trying things out. `jaxdecay.steered` makes such lists."""

import dataclasses
from typing import Literal, get_args

from jaxdecay.errors import InputError
from jaxdecay.expect import is_number, several, told, whole

Diversity = Literal["mmr", "dpp"]
Explore = Literal["none", "temperature", "thompson"]
Over = Literal["each", "all"]

POOL = 200
"""How many of the best candidates a list is chosen from where nothing else is said."""
_APART = 0.01  # of two bounds
_HOTTEST = 1e6  # temperature, from which on draws would be even by far


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steering:
    """What a list is to be besides its best scores.

    An option that would do nothing, since what it is about is not asked for, is refused.
    """

    trade_off: float = 1.0
    """From 1, relevance alone, to 0, diversity alone (`jaxdecay.rerank`)."""
    diversity: Diversity | None = None
    """mmr (the default): maximal marginal relevance, by the similarity to the items listed before. dpp: the
    greedy determinantal point process. Both by the cosine of the learned item vectors."""
    pool: int | None = None
    """How many of the best candidates a list is chosen from, by default 200; as many as the list is long
    at least, and more where they cannot keep to the bounds."""
    group: str | None = None
    """Item column whose values are the groups that a cap or a share is about."""
    cap: int | None = None
    """Most items of one group in a list; those without a value belong to none."""
    exposed: tuple[str, ...] = ()
    """Values of that column whose items together are to have a share of the exposure, in which a place t
    weighs 1 / log2(1 + t)."""
    least: float = 0.0
    """Least share."""
    most: float = 1.0
    """Greatest share."""
    over: Over | None = None
    """each (the default): in every list. all: over all lists together (in blocks of 8192 users), by the
    smallest bonus on the scores of the group that does it. An empty list keeps to every bound."""
    explore: Explore = "none"
    """temperature: lists are drawn from the softmax of the scores, without replacement. thompson: how each
    user reads is drawn from what is believed of it, and scores follow."""
    temperature: float | None = None
    """Of such draws: 1 (the default) draws by the probabilities of the model, or of the strategies; near 0
    come the best scores."""
    react: float = 0.0
    """By how much a detected drift of a user raises the weight of what came lately, in logits
    (`jaxdecay.react`); the notes say for how many."""
    seed: int | None = None
    """Of what is drawn; by default a new one, which the notes say."""

    def __post_init__(self) -> None:
        for name, known in (
            ("diversity", get_args(Diversity)),
            ("over", get_args(Over)),
            ("explore", get_args(Explore)),
        ):
            if (value := getattr(self, name)) not in (*known, getattr(Steering, name)):
                raise InputError(f"{name}={value!r}: give one of {', '.join(known)}")
        # What is frozen is set once here: one value may stand for a list, and a number for its name.
        object.__setattr__(self, "exposed", tuple(str(value) for value in several(self.exposed)))
        for name in ("trade_off", "least", "most"):
            if not is_number(value := getattr(self, name)) or not 0 <= value <= 1:
                raise InputError(f"{name}={told(value)}: give a number from 0 to 1")
        for name, lowest in (("pool", 1), ("cap", 1), ("seed", 0)):
            if (value := getattr(self, name)) is not None:
                whole(name, value, lowest)
        if not is_number(self.react) or not 0 <= self.react < float("inf"):
            raise InputError(f"react={told(self.react)}: give a number from 0, such as 1")
        if self.react and self.explore == "thompson":
            raise InputError("react and explore='thompson' both move how users read; give one of them")
        heat = self.temperature
        if heat is not None and not (is_number(heat) and 0 < heat <= _HOTTEST):
            raise InputError(
                f"temperature={told(heat)}: give a number above 0, and no more than {_HOTTEST:g}"
            )
        if self.group is not None and not isinstance(self.group, str):
            raise InputError(f"group={self.group!r}: give the name of an item column")
        self._check_groups()
        self._check_use()

    def _check_use(self) -> None:
        """Raises InputError for what is said about something that is not asked for."""
        if self.seed is not None and self.explore == "none":
            raise InputError(f"seed={self.seed}: nothing is drawn; give explore, or leave the seed out")
        if self.temperature is not None and self.explore != "temperature":
            raise InputError(
                f"temperature={self.temperature:g}: nothing is drawn by it; say explore='temperature', or "
                "leave the temperature out"
            )
        if self.diversity is not None and self.trade_off == 1:
            raise InputError(
                f"diversity={self.diversity!r}: at trade_off=1 relevance alone counts; give a trade_off "
                "below 1, such as 0.5, or leave diversity out"
            )
        chosen = self.trade_off < 1 or self.cap is not None or (self.exposed and self.over != "all")
        if self.pool is not None and not chosen:
            raise InputError(
                f"pool={self.pool}: no list is chosen from a pool; give a trade_off below 1, a cap, or a "
                "bound on the exposure in each list, or leave the pool out"
            )

    def _check_groups(self) -> None:
        bounded = self.least > 0 or self.most < 1
        if bounded and not self.exposed:
            raise InputError(
                f"least={self.least:g} and most={self.most:g} are shares of items that exposed names; give "
                "its values of the group column"
            )
        if self.exposed and not bounded:
            raise InputError("exposed has no bound on its share; give least, most or both")
        if self.least > self.most:
            raise InputError(f"least={self.least:g} is above most={self.most:g}: exchange them")
        if self.exposed and self.least > self.most - _APART and self.least > 0 and self.most < 1:
            raise InputError(
                f"least={self.least:g} and most={self.most:g}: leave {_APART:g} or more between them, since "
                f"shares of a list come in steps: ask for least={max(self.least - _APART, 0):g}"
            )
        if self.group is None and (self.cap is not None or self.exposed):
            raise InputError(
                f"{'exposed' if self.exposed else 'cap'} counts items by a group, and none is given; give "
                "group, an item column"
            )
        if self.group is not None and self.cap is None and not self.exposed:
            raise InputError(
                f"group={self.group!r} bounds nothing by itself; give cap, or exposed with least"
            )
        if self.over is not None and not self.exposed:
            raise InputError(
                f"over={self.over!r} is about a share of the exposure; give exposed with least or most, or "
                "leave it out"
            )
        if self.over == "all" and (self.trade_off < 1 or self.cap is not None):
            raise InputError(
                "over='all' goes with neither a trade_off below 1 nor a cap: a bonus moves only plain lists "
                "in one direction; say over='each'"
            )
