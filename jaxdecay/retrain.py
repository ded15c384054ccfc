"""A run trained on with what a store has had since, in a process of its own: judged on the newest day beside
the run before, and fit to take its place only if it is not worse.

It begins with the run's best parameters and learns what is new, and some of what it knew, lest it forget.
States of users are what the new model makes of the same events: nothing of them need be moved.
"""

import dataclasses
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay import checkpointing, ids, loop, runs
from jaxdecay.assembly import assemble, catalogue_of, load_model, load_predictor, validation
from jaxdecay.assess import finished, write
from jaxdecay.carried import carried
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.data.replay import parts
from jaxdecay.data.requests import requests, sample
from jaxdecay.durations import days
from jaxdecay.errors import InputError
from jaxdecay.evaluate import evaluate
from jaxdecay.expect import whole
from jaxdecay.model import Interest
from jaxdecay.model_options import ModelOptions
from jaxdecay.predict import Predictor
from jaxdecay.protocol import Protocol
from jaxdecay.results import Difference, Report
from jaxdecay.serve.combined import Combined, Trained, combined
from jaxdecay.serve.store import Store
from jaxdecay.spec import Spec
from jaxdecay.train import TrainOptions

BEFORE, AFTER = "before", "retrained"
"""What the table calls the run before, and the new one."""
METRIC = "ndcg@10"
_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class RetrainOptions:
    """How a run is trained on, and by what it is judged."""

    held: str = "1d"
    """The newest stretch of time, which is not trained on: a quarter of its users choose the epoch, the
    others judge."""
    margin: float = 0.0
    """NDCG@10 that the new run may be worse by: it is refused if the 95 % interval of what it has more than
    the run before lies below minus that."""
    replay: float = 10.0
    """Events that the run was trained on and is trained on again, lest it forget: so many times as are
    new."""
    epochs: int = 2
    """Passes over these events."""
    learning_rate: float | None = None
    """Of embeddings and linear maps; default: a tenth of that which the first run was trained with,
    since the optimiser begins anew."""
    decay_learning_rate: float | None = None
    """Likewise of half-lives, write and read weights, and the levels of the heads."""
    requests: int = 4000
    """Most requests to judge by (a seeded sample), and to choose the epoch by."""
    seed: int = 0
    """Of batches and samples."""

    def __post_init__(self) -> None:
        days(self.held, "held")
        for name in ("margin", "replay", "learning_rate", "decay_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name}={value}: give a number from 0 on")
        for name, least in (("epochs", 1), ("requests", 1), ("seed", 0)):
            whole(name, getattr(self, name), least)

    def train(self, before: TrainOptions) -> TrainOptions:
        """How it is trained; ``before``: how the run was."""
        return dataclasses.replace(
            before,
            epochs=self.epochs,
            patience=self.epochs,
            settle_epochs=0,
            learning_rate=before.learning_rate / 10 if self.learning_rate is None else self.learning_rate,
            decay_learning_rate=before.decay_learning_rate / 10
            if self.decay_learning_rate is None
            else self.decay_learning_rate,
            validation_requests=self.requests,
            seed=self.seed,
        )


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of it."""

    report: Report
    """Of the run before and the new one."""
    difference: Difference
    """The new one minus the one before, in NDCG@10."""
    refused: bool


def retrain(
    run: str | Path,
    store: Store,
    out: str | Path,
    options: RetrainOptions = RetrainOptions(),
    *,
    replace: str | Path | None = None,
    report: loop.Report = lambda line: None,
) -> Verdict:
    """Trains a run on with the events of a store, into the new run ``out``, and judges it.

    ``out`` is a run like any other; its ``metrics.json`` has the table and whether it is refused. Unless it
    is, the symbolic link ``replace`` then points to it, by one rename. The same call again goes on with one
    that was interrupted, with the events of when it began.

    Raises InputError where there is nothing new or nothing to judge by, when ``out`` holds something else,
    and for what `jaxdecay.serve.combined.combined` refuses; StoreError.
    """
    run, out = Path(run).resolve(), Path(out)  # a link may come to point elsewhere meanwhile
    model, params, config = load_model(run)
    told = {"from": [config["data"]["fingerprint"], checkpointing.best_step(run)]}
    told |= dataclasses.asdict(options)
    link = None if replace is None else _link(Path(replace))
    if (out / "config.json").exists():
        _refuse_other(out, told, store)
    else:
        report({"doing": "reading the store"})
        _begin(run, out, store, config, told, options)
    config = runs.read_config(out)
    histories = Histories.load(out / "histories", verify=True)
    users = _users(run, out, config, model.spec.users)
    spec, train = Spec.from_json(config["spec"]), TrainOptions(**config["train"])
    reference = Reference(**config["reference"])
    pieces = assemble(histories, spec, ModelOptions.from_json(config["model"]), train, reference=reference)
    if not finished(out):
        start = carried(params, model, pieces.model, users=users)
        # What is not trained on again has spoken, too: beside few targets alone the priors would win.
        known = int((histories.chosen & (histories.time < config["retrained"]["cut"])).sum())
        loop.train(
            out, pieces.model, pieces.optimizer, pieces.batches, pieces.constants, validation(pieces, train),
            train, start=jax.tree.map(jnp.asarray, start), evidence=known, report=report,
        )  # fmt: skip
        if not finished(out):  # the loop saved and left at a signal
            raise KeyboardInterrupt
    before = Interest(dataclasses.replace(model.spec, users=len(users)))
    system = Predictor(
        before,
        carried(params, model, before, users=users),
        _knowing(histories, before.spec),
        catalogue_of(histories, before.spec),
        reference,
        name=BEFORE,
    )
    report({"doing": "judging by the newest events"})
    verdict = _judged(out, system, histories, options)
    if link is not None and not verdict.refused:
        _point(link, out)
    return verdict


def _begin(
    run: Path, out: Path, store: Store, config: dict[str, Any], told: dict[str, Any], options: RetrainOptions
) -> None:
    """Writes the histories and the options of the new run."""
    runs.refuse_occupied(out, run)
    before = config.get("retrained", {})
    trained = Trained(before.get("number", 0), before.get("cut", 0))
    found = _divided(combined(run, store, trained), options)
    histories = found.histories
    spec = config["spec"] | {"items": histories.known_items, "users": histories.known_users}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another --out") from error
    with scratch as directory:
        found.write(Path(directory))
        written = Histories.load(directory).config
        train = before.get("train", config["train"])  # that of the first run, however often it is retrained
        told |= {
            "number": found.number,
            "cut": written["split"]["test_from"],
            "kept": found.kept,
            "report": found.report,
            "train": train,
        }
        new = {
            **{name: config[name] for name in ("model", "half_lives", "reference")},
            "data": {"fingerprint": written["fingerprint"], "split": written["split"]},
            "spec": spec,
            "train": dataclasses.asdict(options.train(TrainOptions(**train))),
            "retrained": told,
        }
        runs.create(out, Path(directory), new)


def _divided(found: Combined, options: RetrainOptions) -> Combined:
    """With parts to train and to judge by."""
    histories, base = found.histories, found.base
    time = np.asarray(histories.time)
    cut = int(time.max(initial=0)) + 1 - round(days(options.held) * _DAY)
    part = parts(histories, cut, replay=options.replay, seed=options.seed)
    seen = time < cut
    counts = histories.config["counts"] | {
        "known_items": max(histories.known_items, int(histories.item[seen].max()) + 1),
        "known_users": max(histories.known_users, int(histories.user()[seen].max()) + 1),
    }
    numbers = np.bincount(part, minlength=LIVE + 1).tolist()
    split = {
        "kind": "global-time",
        "targets": "successive",
        "validation_from": cut,
        "test_from": cut,
        "events": dict(zip(("train", "validation", "test", "seen"), numbers, strict=True)),
        "warnings": [],
    }
    own_part = np.where(base.time < cut, 0, LIVE).astype(np.int8)  # what the next run will know
    of_both = {"counts": counts, "split": split}
    own = {"counts": counts | {"events": base.events}, "split": split}
    return found._replace(
        histories=histories.replace(part=part, config=histories.config | of_both),
        base=base.replace(part=own_part, config=base.config | own),
    )


def _users(run: Path, out: Path, config: dict[str, Any], known: int) -> np.ndarray:
    """(n,) which of the ``known`` users of the run are the first n users of the new one."""
    there, new = (ids.read_table(one / "histories", "user", rows=_rows(one)) for one in (run, out))
    kept = new["user_id"][: config["retrained"]["kept"]]
    found = ids.find(kept, there["user_id"])
    return found[(found >= 0) & (found < known)]


def _rows(run: Path) -> int:
    return Histories.load(run / "histories").users


def _knowing(histories: Histories, spec: Spec) -> Histories:
    """The same histories to a model that knows fewer users and items."""
    counts = histories.config["counts"] | {"known_users": spec.users, "known_items": spec.items}
    return histories.replace(config=histories.config | {"counts": counts})


def _judged(out: Path, before: Predictor, histories: Histories, options: RetrainOptions) -> Verdict:
    after = load_predictor(out, histories=histories)
    after.name = AFTER
    there = requests(histories, 2, chosen=True)
    asked = sample(there, options.requests, options.seed)
    drawn = f"{len(asked)} of {len(there)} requests, drawn with seed {options.seed}"
    of = "all" if len(asked) == len(there) else drawn
    found = evaluate([before, after], histories, asked, reference=BEFORE, seed=options.seed)
    difference = found.difference(AFTER, METRIC, BEFORE)
    refused = not difference.high >= -options.margin  # an interval that is none refuses, too
    facts = {"part": "test", "targets_of": "all", "sample": of, "refused": refused}
    facts["half_lives"] = runs.read_config(out)["half_lives"]
    found = dataclasses.replace(found, protocol={**found.protocol, **facts})
    write(out, Protocol(), found)
    return Verdict(found, difference, refused)


def _refuse_other(out: Path, told: dict[str, Any], store: Store) -> None:
    """Raises InputError unless ``out`` is this very retraining, begun before."""
    there = runs.read_config(out).get("retrained", {})
    if any(there.get(name) != value for name, value in told.items()):
        raise InputError(
            f"{out}: was begun with another run or other options; remove it, or give another --out"
        )
    if any(entry.event is None for entry in store.after(there["number"])):
        raise InputError(f"{out}: events were erased since it began; remove it, and retrain again")


def _link(link: Path) -> Path:
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link}: is no symbolic link; serve a link to the run, and give that")
    return link


def _point(link: Path, to: Path) -> None:
    """Has the link point to a run, from one moment to the next."""
    new = link.with_name(f".{link.name}.{secrets.token_hex(4)}.new")
    try:
        new.symlink_to(to.resolve(), target_is_directory=True)
        os.replace(new, link)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InputError(
            f"{link}: cannot be written ({error.strerror}); the new run is whole: point the link to {to}"
        ) from error
