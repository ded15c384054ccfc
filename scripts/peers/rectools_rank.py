"""Trains RecTools' SASRec or HSTU on a split handed over, and writes its ranked lists, for another to judge.

    python scripts/peers/rectools_rank.py --parts DIR --out DIR --model hstu

Runs in an environment of its own, as rectools_sasrec.py does. The folder of ``--parts`` is what
`board.logs.hand_over` writes: the peer trains on part 0, ranks the validation requests by its own `recommend`
after every ``--every`` epochs, and stops when NDCG@10 has not risen for ``--patience`` of these. The
parameters of the best epoch then rank the validation and the test requests.

- A request is ranked from what its user did before it, with parameters frozen. RecTools knows one history a
  user, so each request is handed to it as a user of its own, some thousands at a time.
- HSTU is given the request's time, as ``context``. SASRec has no use for it.
- The last ``--length`` events are all that these models read. Where the history is to be removed from the
  lists, all of it is handed over, since RecTools filters what it is handed.
- RecTools recommends items of its training part, and nothing to a request without any of them in its history.
- Where a log's times count from each user's first event they are read as if from 1970, which moves no gap.

``--out`` then holds ``lists.parquet`` (user_id, item_id, rank, request) and ``peer.json``: ``seconds`` of
training (without ranking), seconds per epoch, peak memory of training and ranking, parameters, the validation
curve (seconds of training, NDCG@10). After each epoch all of it stands in ``state.pt``: a killed run goes on
from there, if not bit for bit. ``events_per_second`` counts the events it trains on, at most ``--length`` + 1
of each user.
"""

import argparse
import importlib.util
import json
import os
import re
import resource
import signal
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import rectools_sasrec

CUT = 10
MOSTLY = 0.95
CHUNK = 1 << 21
"""Events handed over at once, about."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--parts", type=Path, required=True, help="folder with log.parquet, requests.parquet, rules.json")
    add("--out", type=Path, required=True, help="folder for lists.parquet and peer.json")
    add("--venv", type=Path, default=Path(".venv-rectools"), help="environment of the peer")
    add("--python", default=sys.executable, help="Python 3.11 or 3.12 that makes the environment")
    add("--model", choices=("sasrec", "hstu"), default="sasrec")
    add("--threads", type=int, default=2)
    add("--epochs", type=int, default=100, help="most epochs")
    add("--every", type=int, default=1, help="epochs between evaluations")
    add("--patience", type=int, default=10, help="evaluations without a better NDCG@10 before it stops")
    add("--seed", type=int, default=0)
    add("--top", type=int, default=100, help="length of the lists")
    add("--factors", type=int, default=64, help="width of the embeddings")
    add("--blocks", type=int, default=2)
    add("--heads", type=int, default=2)
    add("--length", type=int, help="longest history (default: 19 of 20 users' whole, from 50 to 200)")
    add("--batch", type=int, help="users in a batch (default: a hundredth of all, from 16 to 128)")
    add("--rate", type=float, default=1e-3, help="learning rate")
    add("--dropout", type=float, default=0.2)
    add("--loss", default="softmax", help="softmax, sampled_softmax, BCE or gBCE")
    add("--negatives", type=int, default=256, help="for all losses but softmax")
    add("--temperature", type=float, help="logits are divided by it (default: 1; HSTU, whose scores are "
        "cosines, .05)")  # fmt: skip
    return parser.parse_args()


class Log:
    """The log as the prepared directory has it: by user, then time; and what is asked."""

    def __init__(self, parts: Path) -> None:
        import numpy as np
        import pandas as pd

        self.frame = pd.read_parquet(parts / "log.parquet")
        self.requests = pd.read_parquet(parts / "requests.parquet")
        self.rules = json.loads((parts / "rules.json").read_text())
        user = self.frame["user_id"].to_numpy()
        begins = np.append(True, user[1:] != user[:-1])
        self.begin = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        """Row of the first event of each event's user."""
        self.datetime = pd.to_datetime(self.frame["timestamp"], unit="s")

    def sizes(self) -> tuple[int, int]:
        """Length of histories and users in a batch, where they are not given: so many steps an epoch on any
        log that patience in epochs means much the same."""
        lengths = self.frame.loc[self.frame["part"] == 0, "user_id"].value_counts().to_numpy()
        longest = sorted(lengths)[int(0.95 * (len(lengths) - 1))]
        return min(max(int(longest), 50), 200), min(max(len(lengths) // 100, 16), 128)

    def training(self, length: int) -> Any:
        """The training part as RecTools wants it, rows in their order.

        RecTools trains on the last ``length`` targets of each user. Where that leaves out more than a
        twentieth of them, histories are cut into stretches of so many targets, each a user of its own.
        """
        import pandas as pd

        train = (self.frame["part"] == 0).to_numpy()
        frame = self.frame.loc[train, ["user_id", "item_id"]]
        frame = frame.assign(datetime=self.datetime[train], weight=1.0).reset_index(drop=True)
        from_end = frame.groupby("user_id", sort=False).cumcount(ascending=False)
        stretch = from_end // length
        if (stretch == 0).mean() > MOSTLY:
            return frame
        # What comes before the first target of a stretch is the last of the stretch before it.
        before = (from_end % length == 0) & (stretch > 0)
        shared = frame[before].assign(stretch=stretch[before] - 1)
        whole = pd.concat([shared, frame.assign(stretch=stretch)], ignore_index=True)
        users = whole.groupby(["user_id", "stretch"], sort=False).ngroup()
        return whole.assign(user_id=users).drop(columns="stretch")

    def chunks(self, asked: Any, most: int | None) -> Any:
        """Stretches of requests, each a user of its own: their histories (the last ``most`` events, None for
        all) and contexts."""
        import numpy as np

        rows = np.sort(asked["request"].to_numpy())
        begin = self.begin[rows] if most is None else np.maximum(self.begin[rows], rows - most)
        lengths = rows - begin
        total, start = np.cumsum(lengths), 0
        while start < len(rows):
            spent = total[start - 1] if start else 0
            end = max(int(np.searchsorted(total, spent + CHUNK, side="right")), start + 1)
            yield self._histories(rows[start:end], begin[start:end], lengths[start:end])
            start = end

    def _histories(self, rows: Any, begin: Any, lengths: Any) -> tuple[Any, Any]:
        import numpy as np
        import pandas as pd

        starts = np.cumsum(lengths) - lengths
        event = np.arange(lengths.sum()) + np.repeat(begin - starts, lengths)
        history = {
            "user_id": np.repeat(rows, lengths),
            "item_id": self.frame["item_id"].to_numpy()[event],
            "datetime": self.datetime.to_numpy()[event],
            "weight": 1.0,
        }
        times = self.datetime.to_numpy()[rows]
        return pd.DataFrame(history), pd.DataFrame({"user_id": rows, "datetime": times, "weight": 1.0})


def build(arguments: argparse.Namespace) -> Any:
    """The model, not yet fitted."""
    from pytorch_lightning import Trainer
    from rectools.models import HSTUModel, SASRecModel

    temperature = arguments.temperature or (0.05 if arguments.model == "hstu" else 1.0)

    def trainer() -> Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(accelerator="cpu", devices=1, max_epochs=1, enable_checkpointing=False, **quiet)

    kind = HSTUModel if arguments.model == "hstu" else SASRecModel
    return kind(
        n_factors=arguments.factors,
        n_blocks=arguments.blocks,
        n_heads=arguments.heads,
        session_max_len=arguments.length,
        batch_size=arguments.batch,
        dropout_rate=arguments.dropout,
        lr=arguments.rate,
        loss=arguments.loss,
        n_negatives=arguments.negatives,
        lightning_module_kwargs={"logits_t": temperature},
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )


def rank(model: Any, log: Log, asked: Any, top: int, length: int) -> Any:
    """The model's lists for some requests: a frame of request, item_id, rank."""
    import pandas as pd
    from rectools.dataset import Dataset

    removed, found = log.rules["exclude_history"], []
    for history, context in log.chunks(asked, None if removed else length):
        if not len(history):
            continue
        users = history["user_id"].unique()
        told = context[context["user_id"].isin(users)] if model.require_recommend_context else None
        lists = model.recommend(
            users, Dataset.construct(history), k=top, filter_viewed=removed, context=told,
            on_unsupported_targets="ignore",
        )  # fmt: skip
        found.append(lists[["user_id", "item_id", "rank"]].rename(columns={"user_id": "request"}))
    columns = ["request", "item_id", "rank"]
    return pd.concat(found) if found else pd.DataFrame({name: [] for name in columns})


def ndcg(lists: Any, asked: Any) -> float:
    """Mean NDCG@10 over the requests, each with one target; not listed is a miss."""
    import numpy as np

    hits = asked.merge(lists, on=["request", "item_id"])
    hits = hits[hits["rank"] <= CUT]
    return float((1 / np.log2(hits["rank"].to_numpy() + 1)).sum() / len(asked))


def peak_mib() -> float:
    """Most memory this process has held, in MiB."""
    try:  # getrusage also counts what the parent held when it forked
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    kib = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / (1024 if sys.platform != "darwin" else 1024**2), 1)


class Training:
    """A fit that can be left after any epoch and taken up again."""

    def __init__(self, arguments: argparse.Namespace, log: Log) -> None:
        from rectools.dataset import Dataset

        self.arguments, self.log = arguments, log
        self.asked = log.requests[log.requests["part"] == 1]
        self.dataset = Dataset.construct(log.training(arguments.length))
        self.model = build(arguments)
        self.state = arguments.out / "state.pt"
        self.epochs: list[float] = []
        self.curve: list[tuple[int, float, float]] = []
        """Epoch, seconds of training until then, validation NDCG@10."""
        self.best: dict[str, Any] = {}
        self.peak = 0.0
        if self.state.is_file():
            self._resume()

    def run(self) -> None:
        """Trains until it has not become better for as long as patience goes."""
        while len(self.epochs) < self.arguments.epochs and not self._stale():
            begin = time.perf_counter()
            self.model.fit_partial(self.dataset, min_epochs=1, max_epochs=1)
            self.epochs.append(time.perf_counter() - begin)
            self.peak = max(self.peak, peak_mib())
            if len(self.epochs) % self.arguments.every == 0 or len(self.epochs) == self.arguments.epochs:
                self._evaluate()
            self._save()

    def _evaluate(self) -> None:
        lists = rank(self.model, self.log, self.asked, CUT, self.arguments.length)
        score = ndcg(lists, self.asked)
        if not self.curve or score > max(one[2] for one in self.curve):
            self.best = deepcopy(self.model.torch_model.state_dict())
        self.curve.append((len(self.epochs), sum(self.epochs), score))
        print(
            f"epoch {len(self.epochs)}: validation NDCG@10 {score:.4f}, {sum(self.epochs):.0f} s", flush=True
        )

    def _stale(self) -> bool:
        scores = [one[2] for one in self.curve]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.arguments.patience

    def _save(self) -> None:
        """Writes the state, whole or not at all."""
        import torch

        kept = {
            "epochs": self.epochs,
            "curve": self.curve,
            "best": self.best,
            "peak": self.peak,
            "model": self.model.torch_model.state_dict(),
            "optimizer": self.model.lightning_model.optimizer.state_dict(),
            "random": _random_states(),
        }
        partial = self.state.with_suffix(".partial")
        torch.save(kept, partial)
        os.replace(partial, self.state)

    def _resume(self) -> None:
        """Takes up a saved state. RecTools builds its network when it is first fitted, and starts its weights
        anew unless its module says that it is fitted; both are done here in its stead."""
        import random

        import numpy as np
        import torch

        kept = torch.load(self.state, weights_only=True)
        self.epochs, self.curve = kept["epochs"], kept["curve"]
        self.best, self.peak = kept["best"], kept["peak"]
        self.model._build_model_from_dataset(self.dataset)
        self.model.torch_model.load_state_dict(kept["model"])
        self.model.lightning_model.is_fitted = True
        self.model.lightning_model.configure_optimizers().load_state_dict(kept["optimizer"])
        self.model.fit_trainer = deepcopy(self.model._trainer)
        self.model.is_fitted = True
        python, numpy, torch_state = kept["random"]
        random.setstate(python)
        numpy["state"]["key"] = np.array(numpy["state"]["key"], np.uint32)
        np.random.set_state(numpy)  # noqa: NPY002 (the peer draws from it)
        torch.set_rng_state(torch_state)
        print(f"goes on after epoch {len(self.epochs)}", flush=True)


def _random_states() -> tuple[Any, Any, Any]:
    """Of Python, NumPy and PyTorch, as plain numbers and tensors, which are loaded without running code."""
    import random

    import numpy as np
    import torch

    numpy: dict[str, Any] = dict(np.random.get_state(legacy=False))  # noqa: NPY002
    numpy["state"] = {**numpy["state"], "key": numpy["state"]["key"].tolist()}
    return random.getstate(), numpy, torch.get_rng_state()


def train_and_rank(arguments: argparse.Namespace) -> None:
    """Everything: train, take the best epoch, rank, write."""
    import logging
    import statistics
    import warnings
    from importlib.metadata import version

    import torch
    from pytorch_lightning import seed_everything

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # the peer's own remarks on its data loader
    torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed, verbose=False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.parts)
    length, batch = log.sizes()
    arguments.length, arguments.batch = arguments.length or length, arguments.batch or batch
    training = Training(arguments, log)
    training.run()
    model = training.model
    model.torch_model.load_state_dict(training.best)
    lists = rank(model, log, log.requests, arguments.top, arguments.length)
    lists["user_id"] = log.frame["user_id"].to_numpy()[lists["request"].to_numpy(dtype="int64")]
    lists.to_parquet(arguments.out / "lists.parquet", index=False)
    epoch, seconds = statistics.median(training.epochs), sum(training.epochs)
    events = len(model.data_preparator.train_dataset.interactions.df)
    names = ("rectools", "torch", "pytorch-lightning", "numpy")
    told = {
        "seconds": round(seconds, 2),
        "peak_mib": training.peak,
        "validation": max(one[2] for one in training.curve),
        "epochs": len(training.epochs),
        "seconds_per_epoch": round(epoch, 3),
        "events_per_second": round(events / epoch, 1),
        "parameters": sum(one.numel() for one in model.torch_model.parameters()),
        "curve": [[round(one[1], 2), one[2]] for one in training.curve],
        "versions": {name: version(name) for name in names},
        "device": f"cpu, {torch.get_num_threads()} threads",
    }
    (arguments.out / "peer.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Runs in the peer's environment; a signal ends it at once, with all but the epoch under way saved."""
    arguments = parse_arguments()
    if importlib.util.find_spec("rectools") is None:
        rectools_sasrec.run_in_own_environment(arguments.venv, arguments.python)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(75))
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(75))
    train_and_rank(arguments)


if __name__ == "__main__":
    main()
