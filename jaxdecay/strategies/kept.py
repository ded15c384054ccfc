"""What strategies were fitted to, kept in the run directory: ``policy.json``, and the item factors in
``policy.npz``, without pickle."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay import runs
from jaxdecay.checkpointing import best_step
from jaxdecay.errors import InputError
from jaxdecay.policy import FEATURES, Learned
from jaxdecay.strategies.scores import NAMES, Fitted

FILE, ARRAYS = "policy.json", "policy.npz"
FORMAT = 1
_PLAIN = ("confidence", "sharpness", "mixture", "log_likelihood", "feedback")


def save_strategies(run: Path, fitted: Fitted) -> None:
    """Writes both files, each whole or not at all, the one that makes the other valid last."""
    policy = {name: array.tolist() for name, array in fitted.policy._asdict().items()}
    half_lives = {name: None if np.isinf(days) else days for name, days in fitted.half_lives.items()}
    config = {
        "format": FORMAT,
        "run": _fingerprint(run),
        "strategies": NAMES,
        "features": FEATURES,
        "half_lives": half_lives,
        "paces": fitted.paces,
        **{name: getattr(fitted, name) for name in _PLAIN},
        "policy": policy,
        "factors": zlib.crc32(fitted.factors.tobytes()),
    }
    partial = run / (ARRAYS + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, factors=fitted.factors)
        os.replace(partial, run / ARRAYS)
        runs.write_json(run / FILE, config)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{run / FILE}: cannot be written ({error.strerror}); free some space and fit the policy again"
        ) from error


def load_strategies(run: Path) -> Fitted:
    """Raises InputError when there is none, it is damaged, or the run has been trained on since."""
    path, again = run / FILE, f"run jaxdecay policy {run}"
    if not path.is_file():
        raise InputError(f"{run}: no strategies have been fitted yet; {again}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        known = (config["format"], config["strategies"], config["features"])
        fitted = _fitted(config, run / ARRAYS)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); {again}") from None
    if known != (FORMAT, list(NAMES), list(FEATURES)):
        raise InputError(f"{path}: is of another version of jaxdecay; {again}")
    if config["run"] != _fingerprint(run):
        raise InputError(f"{path}: was fitted before the run was trained on; {again}")
    return fitted


def _fitted(config: dict[str, Any], arrays: Path) -> Fitted:
    with arrays.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        factors = stored["factors"]
    if zlib.crc32(factors.tobytes()) != config["factors"]:
        raise ValueError(arrays)
    half_lives = {name: np.inf if days is None else days for name, days in config["half_lives"].items()}
    policy = Learned(**{name: np.asarray(array) for name, array in config["policy"].items()})
    plain = {name: config[name] for name in _PLAIN}
    return Fitted(
        half_lives=half_lives, factors=factors, paces=tuple(config["paces"]), policy=policy, **plain
    )


def _fingerprint(run: Path) -> dict[str, Any]:
    """What a policy stands on: the log, and the parameters of the best checkpoint."""
    return {"data": runs.read_config(run)["data"]["fingerprint"], "step": best_step(run)}
