"""How a run is evaluated."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxdecay.data.requests import Which
from jaxdecay.errors import InputError
from jaxdecay.expect import whole


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is asked of the systems, and what their answers are judged by."""

    part: Literal["test", "validation"] = "test"
    """Held-out part whose events are to be found."""
    items: Which = "all"
    """Judge by targets of all items, by those that training has seen, or by those that no part before the
    judged one has; cold ones are ranked among all items of the log, whether they have come yet or not."""
    k: tuple[int, ...] = (10,)
    """List lengths."""
    max_requests: int | None = None
    """Judge by a sample of so many requests; the table says so."""
    exclude_history: bool | None = None
    """Whether what a user already had is removed from the ranking; by default unless more than 5 % of
    training events are repeats."""
    ablation: bool = True
    """Train the same model without decay, too (once; it is kept in RUN/without-decay)."""
    bootstrap: int = 1000
    """Replicates behind the 95 % intervals."""
    seed: int = 0
    """Of samples and replicates."""

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise InputError(f"-k {' '.join(map(str, self.k))}: give list lengths from 1 on")
        if self.items not in get_args(Which):
            raise InputError(f"--items {self.items}: give one of {', '.join(get_args(Which))}")
        for name in ("max_requests", "bootstrap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: give at least 1")
        whole("seed", self.seed)


def file_of(protocol: Protocol, *words: str) -> str:
    """Name of the file in the run that keeps the figures; ``words``: of what else was judged."""
    asked = [word for word in (protocol.part, protocol.items) if word not in ("test", "all")]
    return "-".join(["metrics", *asked, *words]) + ".json"
