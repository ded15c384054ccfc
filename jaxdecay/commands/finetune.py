"""``jaxdecay fine-tune``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from jaxdecay import runs
from jaxdecay.commands import Command
from jaxdecay.finetune import MODEL, fine_tune
from jaxdecay.frozen import FineTuneOptions
from jaxdecay.progress import Progress, note


@dataclass(frozen=True, kw_only=True)
class FineTune(Command):
    """Trains on from a run, along with the language model that made the vectors of its items' texts.

    Writes a run like any other, with the vectors of the tuned model, and the tuned model in its folder
    language-model, by which jaxdecay embed makes vectors of items to come. The same command goes on with one
    that was interrupted.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote, on a log prepared with the vectors of jaxdecay embed."""
    model: Path
    """Folder of the language model that made them."""
    out: Path
    """Run directory to write."""
    fine_tune: tyro.conf.OmitArgPrefixes[FineTuneOptions] = field(default_factory=FineTuneOptions)

    def perform(self) -> dict[str, Any]:
        with Progress() as progress:
            out = fine_tune(self.run, self.model, self.out, self.fine_tune, report=progress)
        lines = runs.HistoryLog.lines(out)
        return {
            "run": str(out),
            "epochs": lines[-1]["epoch"],
            "best": max(line["ndcg@10"] for line in lines),
            "before": runs.read_config(out)["before"]["ndcg@10"],
        }

    def show(self, result: dict[str, Any]) -> None:
        scores = f"{result['best']:.4f}, {result['before']:.4f} before"
        print(f"{result['run']}: {result['epochs']:g} epochs; NDCG@10 on validation {scores}")
        if result["best"] < result["before"]:
            note("the run before was better on validation: fewer epochs or lower learning rates may do")
        print(f"the language model: {self.out / MODEL}")
        print(f"next: jaxdecay evaluate {result['run']}")
