"""``jaxdecay train``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdecay import checkpointing, distributed, runs
from jaxdecay.assess import finished
from jaxdecay.commands import Command
from jaxdecay.distributed import MeshOptions
from jaxdecay.fitting import train_run
from jaxdecay.model_options import ModelOptions
from jaxdecay.progress import Progress, note
from jaxdecay.train import TrainOptions


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Trains on a prepared log.

    The same command goes on with a run that was killed or interrupted. Ctrl-C and SIGTERM save first. It
    trains on all accelerators, and in several processes where JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID are set; a run may go on with others than it began with.
    """

    prepared: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Directory that jaxdecay prepare wrote."""
    out: Path
    """Run directory to write, or to go on with."""
    model: tyro.conf.OmitArgPrefixes[ModelOptions] = field(default_factory=ModelOptions)
    train: tyro.conf.OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    mesh: tyro.conf.OmitArgPrefixes[MeshOptions] = field(default_factory=MeshOptions)

    def perform(self) -> dict[str, Any]:
        distributed.initialise()
        with Progress() as progress:
            out = train_run(
                self.prepared, self.out, model=self.model, train=self.train, mesh=self.mesh, report=progress
            )
        lines = runs.HistoryLog.lines(out)
        best = next((line for line in reversed(lines) if line["kept"]), None)
        done = finished(out)
        if not done:
            note("stopped before the end and saved; the same command goes on from there")
        return {
            "run": str(out),
            "finished": done,
            "half_lives": runs.read_config(out)["half_lives"],
            "steps": checkpointing.latest_step(out),
            "epochs": lines[-1]["epoch"] if lines else 0,
            "best": best,
        }

    def show(self, result: dict[str, Any]) -> None:
        best = result["best"]
        score = (
            f"; NDCG@10 on validation {best['ndcg@10']:.4f} (kept: epoch {best['epoch']:g})" if best else ""
        )
        epochs = f"{result['epochs']:g} epochs{'' if result['finished'] else ' evaluated'}"
        print(f"{result['run']}: trained {result['steps']} steps ({epochs}){score}")
        print(f"half-lives: {result['half_lives']['how']}")
        if result["finished"]:
            print(f"next: jaxdecay evaluate {result['run']}")

    def fault(self, result: dict[str, Any]) -> str | None:
        if not result["finished"]:  # the loop saved and left at a signal; what comes next must not go on
            raise KeyboardInterrupt
        return None
