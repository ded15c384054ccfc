"""Progress and notes on stderr, by the leading process only: a bar on a terminal, a line per finding
elsewhere."""

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)


def leading() -> bool:
    """Whether this is process 0 of however many; without JAX there is only one."""
    jax = sys.modules.get("jax")
    return jax is None or jax.process_index() == 0


def note(text: str) -> None:
    """One line of stderr that is no error."""
    if leading():
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Called with lines such as ``{"step": 3, "steps": 70}``, which move a bar, or ``{"epoch": 1, "ndcg@10":
    .2}`` and ``{"doing": "ranking"}``, which are shown; tables within a line are not.
    """

    def __init__(self) -> None:
        self._shown = leading()
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (self._shown and sys.stderr.isatty()),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, line: dict[str, Any]) -> None:
        counted = next((key for key in line if f"{key}s" in line), None)
        rest = {
            key: value
            for key, value in line.items()
            if (counted is None or key not in (counted, f"{counted}s")) and not isinstance(value, dict)
        }
        if counted is not None:
            self._move(counted, line[counted], line[f"{counted}s"])
        if rest and (counted is None or not self._bars.disable):
            self.say(", ".join(_text(key, value) for key, value in rest.items()))

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._shown:
            self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _move(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(f"{what}s", total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)


def _text(key: str, value: Any) -> str:
    if key == "doing":
        return f"{value} ..."
    return f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
