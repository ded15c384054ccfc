"""What strategies were fitted to, kept in the run directory: ``policy.json``, and the item factors in
``policy.npz``, without pickle."""

import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay import runs
from jaxdecay.checkpointing import best_step
from jaxdecay.errors import InputError
from jaxdecay.expect import is_number
from jaxdecay.policy import FEATURES, Learned
from jaxdecay.predict import Predictor
from jaxdecay.strategies.mixture import needs_fit
from jaxdecay.strategies.scores import NAMES, UNFITTED, Fitted, Strategies
from jaxdecay.strategies.whom import JUDGED

FILE, ARRAYS = "policy.json", "policy.npz"
FORMAT = 2
_PLAIN = ("confidence", "sharpness", "mixture", "log_likelihood", "groups", "feedback")


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
        same = known == (FORMAT, list(NAMES), list(FEATURES))
        fitted, of = _fitted(config, run / ARRAYS) if same else UNFITTED, config["run"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); {again}") from None
    if not same:
        raise InputError(f"{path}: is of another version of jaxdecay; {again}")
    if of != _fingerprint(run):
        raise InputError(f"{path}: was fitted before the run was trained on; {again}")
    return fitted


def _fitted(config: dict[str, Any], arrays: Path) -> Fitted:
    """Raises any of the errors that mean damage."""
    with arrays.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        factors = stored["factors"]
    if zlib.crc32(factors.tobytes()) != config["factors"] or factors.ndim != 2:
        raise ValueError(arrays)
    half_lives = {name: np.inf if days is None else days for name, days in config["half_lives"].items()}
    policy = Learned(**{name: np.asarray(array, np.float64) for name, array in config["policy"].items()})
    plain = {name: config[name] for name in _PLAIN}
    fitted = Fitted(
        half_lives=half_lives, factors=factors, paces=tuple(config["paces"]), policy=policy, **plain
    )
    _check(fitted)
    return fitted


def _check(fitted: Fitted) -> None:
    """Raises ValueError for what no fit has written."""
    wanted = {
        "half_lives": UNFITTED.half_lives,
        "sharpness": NAMES,
        "mixture": NAMES,
        "log_likelihood": JUDGED,
    }
    numbers = [fitted.confidence, *fitted.paces]
    for name, keys in wanted.items():
        if set(found := getattr(fitted, name)) != set(keys):
            raise ValueError(name)
        numbers += found.values()
    for group in fitted.groups:
        if not {"known", "moved", "events"} <= set(group):
            raise ValueError("groups")
        for name, keys in (("log_likelihood", JUDGED), ("weight", NAMES)):
            if set(group[name]) != set(keys):
                raise ValueError(name)
            numbers += group[name].values()
    if not fitted.groups:
        raise ValueError("groups")
    if not all(is_number(one) and not math.isnan(one) for one in numbers) or len(fitted.paces) != 4:
        raise ValueError("numbers")
    if any(one <= 0 for one in (*fitted.half_lives.values(), *fitted.sharpness.values())):
        raise ValueError("half_lives and sharpness")
    features, names = len(FEATURES), len(NAMES)
    shapes = ((features,), (features,), (features, names), (names,))
    policy = fitted.policy
    if tuple(one.shape for one in policy) != shapes or not all(np.isfinite(one).all() for one in policy):
        raise ValueError("policy")
    if not (policy.scale > 0).all():
        raise ValueError("scale")
    if not isinstance(fitted.feedback, str):
        raise ValueError("feedback")


def load_for(run: Path, predictor: Predictor, weights: np.ndarray | None) -> Strategies:
    """The strategies that ``weights`` (`asked_weights`) ask for. The model alone needs nothing fitted; all
    else raises InputError as `load_strategies`."""
    return Strategies(predictor, load_strategies(run) if needs_fit(weights) else UNFITTED)


def _fingerprint(run: Path) -> dict[str, Any]:
    """What a policy stands on: the log, and the parameters of the best checkpoint."""
    return {"data": runs.read_config(run)["data"]["fingerprint"], "step": best_step(run)}
