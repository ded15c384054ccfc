"""The main job, end to end, in one process: log, training, half-lives, evaluation, recommendations, pictures.

    python scripts/demo.py                          simulates a log with planted half-lives
    python scripts/demo.py LOG --clock relative     any log; options of `jaxdecay prepare` may follow

`bash scripts/demo.sh` installs first. The same command again goes on where it was stopped.
"""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import demo_story  # beside this file
import polars as pl
import tyro

from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.simulate import SimulateOptions, simulate, write
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.progress import Progress, note
from jaxdecay.protocol import Protocol
from jaxdecay.settings import Settings, parse
from jaxdecay.train import TrainOptions

_REFITS_UP_TO = 300_000
"""Events of a log up to which half-lives get intervals by default."""


@dataclass(frozen=True, kw_only=True)
class Demo(PrepareOptions, Settings):
    """Trains on a log (by default a simulated one), evaluates, recommends and draws."""

    short: ClassVar[Mapping[str, str]] = {"split": "split.kind", "anonymise": "anonymise.users"}

    log: tyro.conf.Positional[Path | None] = None
    """Events: Parquet, CSV, TSV or a MovieLens :: file; without one a log is simulated."""
    out: Path | None = None
    """Directory to write; default: runs/demo, or runs/NAME-OF-THE-LOG."""
    epochs: int = 4
    """Most passes over the training events."""
    features: int = 16
    """Length of item vectors."""
    refits: int | None = None
    """Refits behind the intervals of half-lives; default: 10 for logs of up to 300,000 events, else none."""
    requests: int = 20_000
    """Most held-out events that the systems are judged by."""
    simulated_users: int = 1500
    """Users of the simulated log."""


class Made(NamedTuple):
    """What the stages hand to the tables and pictures."""

    run: Any
    half_lives: pl.DataFrame
    truth: dict[str, Any] | None
    report: Any
    story: "demo_story.Story"


class Clock:
    """How long each stage took, installation first."""

    def __init__(self) -> None:
        self.seconds = {"install": float(os.environ.get("JAXDECAY_DEMO_INSTALLED_IN", 0))}

    @contextlib.contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        note(f"{doing} ...")
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def line(self) -> str:
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return f"took {sum(self.seconds.values()):.0f} s: {parts}"


def main(argv: list[str]) -> int:
    """Runs the demonstration; 0, or 2 with one line on stderr that says what to do."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    try:
        options = parse(Demo, argv, prog="demo.sh")
        clock = Clock()
        out = options.out or Path("runs") / ("demo" if options.log is None else _name(options.log))
        made = _make(options, out, clock)
        with clock.stage("draw", "drawing"):
            pictures = _draw(made, out)
        _tell(made, out, pictures)
        print(f"\n{clock.line()}")
    except InputError as error:
        print(f"demo.sh: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return 0


def _name(log: Path) -> str:
    """What to call a log's folder: events.parquet in a folder beauty is beauty."""
    return log.resolve().parent.name if log.stem in ("events", "data", "log") else log.stem


def _make(options: Demo, out: Path, clock: Clock) -> Made:
    log, truth = options.log, None
    if log is None:
        with clock.stage("simulate", "simulating a log with planted half-lives"):
            log, truth = _simulated(out / "log", SimulateOptions(users=options.simulated_users))
    with clock.stage("prepare", "preparing"):
        chosen = PrepareOptions(**{one.name: getattr(options, one.name) for one in fields(PrepareOptions)})
        histories = prepare(log, out / "prepared", chosen, overwrite=True)
    with clock.stage("train", f"training on {_size(histories)}"), Progress() as progress:
        import jaxdecay

        run = jaxdecay.fit(
            out / "prepared",
            out / "run",
            model=ModelOptions(features=options.features),
            train=TrainOptions(epochs=options.epochs),
            report=progress,
        )
    refits = options.refits
    if refits is None:
        refits = 400 if histories.events <= _REFITS_UP_TO else 0
    with (
        clock.stage("half-lives", f"half-lives, {refits} refits for their intervals"),
        Progress() as progress,
    ):
        half_lives = run.half_lives(bootstrap=refits, report=progress)
    with clock.stage("evaluate", "evaluating beside the baselines"), Progress() as progress:
        from jaxdecay.assess import assess

        report = assess(run.path, Protocol(max_requests=options.requests), report=progress)
    with clock.stage("recommend", "recommending, now and 30 days later"):
        story = demo_story.find(run)
        story.lists.write_csv(out / "recommendations.csv")
    return Made(run, half_lives, truth, report, story)


def _simulated(folder: Path, options: SimulateOptions) -> tuple[Path, dict[str, Any]]:
    """The log and its truth; drawn unless it lies there already (the truth is written last)."""
    if not (folder / "truth.json").is_file():
        write(simulate(options), folder)
    return folder / "events.parquet", json.loads((folder / "truth.json").read_text(encoding="utf-8"))


def _size(histories: Histories) -> str:
    return f"{histories.events:,} events of {histories.users:,} users with {histories.items:,} items"


def _draw(made: Made, out: Path) -> list[Path]:
    """Writes the pictures and says where they are."""
    from jaxdecay import plots
    from jaxdecay.curves import mean_kernels
    from jaxdecay.runs import HistoryLog

    predictor = made.run.predictor
    curves = mean_kernels(Histories.load(made.run.path / "histories"), predictor.model, predictor.params)
    heads = [curve.head for curve in curves]
    head = "revisit" if "revisit" in heads else heads[0]
    drawn = {
        "half-lives": plots.plot_half_lives(plots.half_lives_frame(made.half_lives, made.truth)),
        "kernels": plots.plot_kernels(plots.kernels_frame(curves, head=head)),
        "metrics": plots.plot_metrics(plots.metrics_frame(made.report.to_json())),
        "training": plots.plot_history(plots.history_frame(HistoryLog.lines(made.run.path))),
    }
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    return [plots.save(axes, folder / f"{name}.png") for name, axes in drawn.items()]


def _tell(made: Made, out: Path, pictures: list[Path]) -> None:
    """The tables, the story and the paths, on stdout."""
    from jaxdecay.report import protocol_lines, show_rows

    planted = made.truth is not None
    print("\nHalf-lives" + (" of coming back to an item, planted and learned" if planted else " learned"))
    show_rows(*demo_story.half_life_table(made.half_lives, made.truth))
    asked, *others = protocol_lines(made.report.protocol)
    history = next(line for line in others if line.startswith("history"))
    print(f"\n{asked}; {history}")
    show_rows(*demo_story.metrics_table(made.report))
    print(f"\n{made.story.title}")
    show_rows(*made.story.table())
    print("\nWhy the lists differ:")
    print(*(f"- {line}" for line in made.story.why), sep="\n")
    print("\nWritten:")
    files = [out / "prepared", made.run.path, made.run.path / "metrics.json", out / "recommendations.csv"]
    print(*(f"  {path}" for path in files + pictures), sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
