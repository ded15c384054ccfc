"""The training loop: feeds steps, evaluates on validation, stops early, saves, resumes bit-identical, and
leaves cleanly when asked to.

A run killed at any moment and started again with the same options ends with the same parameters, bit for
bit, on the same machine, versions and devices, and to rounding on others: batches are pure functions of their
number, the data position is part of every checkpoint, and so is all that early stopping remembers.
"""

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from jaxdecay import checkpointing, distributed, memory, runs
from jaxdecay.curves import half_lives_now
from jaxdecay.data.batches import Batches
from jaxdecay.errors import InputError
from jaxdecay.layout import Layout
from jaxdecay.model import Interest
from jaxdecay.objective import Constants
from jaxdecay.train import State, TrainOptions, init_params, init_state, make_train_step

Evaluate = Callable[[Any], tuple[float, float]]
"""Averaged parameters in, validation score (higher is better) and its standard error out."""
Report = Callable[[dict[str, Any]], None]


def train(
    run: Path,
    model: Interest,
    tx: optax.GradientTransformation,
    batches: Batches,
    constants: Constants,
    evaluate: Evaluate,
    options: TrainOptions,
    *,
    mesh: jax.sharding.Mesh | None = None,
    start: Any = None,
    evidence: int | None = None,
    asked_to_stop: Callable[[], bool] | None = None,
    report: Report = lambda line: None,
) -> State:
    """Trains until early stopping, the last epoch, or a signal; returns the state reached.

    Resumes from the run's latest checkpoint if it has one. ``report`` is called after every evaluation with
    the line that goes into ``history.jsonl``, and after every step with ``{"step": ..., "steps": ...}``
    alone. ``start``: the parameters to begin with, by default fresh ones. ``evidence``: targets that the
    priors stand against, those that ``start`` was learned from among them; by default those of an epoch.
    ``mesh``: the devices to train on; default: one, or all if there are several processes, which then all
    call this alike. ``asked_to_stop``: tells whether a signal came, for a caller that listens itself
    (`stopping`).
    Raises InputError when the loss is not finite, naming step and batch.
    """
    mesh = distributed.mesh() if mesh is None and jax.process_count() > 1 else mesh
    layout = Layout.of(mesh, model)
    batches = layout.batches(batches)
    stream = iter(
        grain.MapDataset.source(batches).to_iter_dataset(
            grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        )
    )
    settle_steps = options.settling * batches.per_epoch
    step = make_train_step(
        model,
        tx,
        batch_targets=batches.targets / batches.per_epoch,
        targets=batches.targets if evidence is None else evidence,
        average_steps=options.average_epochs * batches.per_epoch,
        settle_steps=settle_steps,
        objective=options.objective,
        layout=layout,
    )

    @jax.jit
    def first(constants: Constants) -> Any:
        return init_params(model, constants, options.seed)

    @jax.jit
    def fresh(params: Any) -> State:
        return layout.kept(init_state(params, tx))

    state = fresh(layout.params(first(constants) if start is None else _free(start, layout)))
    constants = layout.everywhere(constants)
    agreed = distributed.Agreement(layout.mesh)
    most = options.epochs * batches.per_epoch
    listening = stopping() if asked_to_stop is None else contextlib.nullcontext(asked_to_stop)
    with checkpointing.checkpointer(run) as checkpoints, listening as asked_to_stop:
        if checkpoints.latest is not None:
            state = _resume(run, checkpoints, state, stream, layout)
        log = runs.HistoryLog(run, resumed_at=int(state.step)) if distributed.leading() else None
        began, before, compiled = time.perf_counter(), None, set()
        # Kept on this side: to read them from the state would wait for the step under way.
        settling, stale = int(state.settling), int(state.stale)
        for now in itertools.count(int(state.step) + 1):
            if settling < 0 and (stale >= options.patience or now > most):
                if not settle_steps:
                    break
                state, settling = _settle(run, checkpoints, state, fresh, layout), now - 1
            last = settling + settle_steps if settling >= 0 else most
            if now > last:
                break
            batch = layout.batch(next(stream))
            state, loss = step(state, batch, constants)
            if batch.history.item.shape not in compiled:
                compiled.add(batch.history.item.shape)
                memory.trim()
            _finite(before, now - 1, batches)
            before = loss
            report({"step": now, "steps": last})
            evaluated = now == last or (now % batches.per_epoch == 0 and settling < 0)
            if evaluated:
                _finite(loss, now, batches)
                state, line, metrics = _evaluated(state, model, evaluate, batches, now, began, layout)
                stale = int(state.stale)
                if log is not None:
                    log.add(line)
                report(line)
                memory.trim()
                _save(run, checkpoints, now, state, stream, metrics)
            stop = agreed(asked_to_stop())
            due = options.checkpoint_steps and now % options.checkpoint_steps == 0
            if (stop or due) and not evaluated:
                _finite(loss, now, batches)
                _save(run, checkpoints, now, state, stream, None)
            if stop:
                break
        with _saving(run):
            checkpoints.wait()
    multihost_utils.sync_global_devices("process 0 has written the history to its end")
    return state


def _settle(
    run: Path, checkpoints: Any, state: State, fresh: Callable[[Any], State], layout: Layout
) -> State:
    """Where the decay parameters go on from alone, with an optimiser without a past: the last parameters if
    validation cannot tell them from the best, since half-lives need vectors that have been learned well, and
    else the best."""
    start = state.average
    if not int(state.near):
        with _saving(run):
            checkpoints.wait()
        start = _free(checkpointing.load_average(run, int(state.best_step), state.average), layout)
    kept = {name: getattr(state, name) for name in ("step", "best", "best_step", "stale")}
    return fresh(start).replace(settling=jnp.copy(state.step), **kept)


def _evaluated(
    state: State,
    model: Interest,
    evaluate: Evaluate,
    batches: Batches,
    now: int,
    began: float,
    layout: Layout,
) -> tuple[State, dict[str, Any], dict[str, float]]:
    """The state after an evaluation, its line of the history, and the metrics of its checkpoint.

    Settled parameters are kept unless validation is worse by more than one standard error.
    """
    average = layout.whole(state.average)
    found = evaluate(average)
    score, error = distributed.by_first(lambda: list(found))  # all must go the same way
    score = float(np.float32(score))  # as the state remembers it: equal scores must stay equal
    settled = int(state.settling) >= 0
    better = score > float(state.best)
    near = score >= float(state.best) - error
    kept = near if settled else score >= float(state.best)
    steps = now - int(state.settling) if settled else batches.per_epoch
    line = {
        "step": now,
        "epoch": round(now / batches.per_epoch, 3),
        "loss": float(state.loss) / steps,
        "ndcg@10": score,
        "settled": settled,
        "kept": kept,
        "half_lives": half_lives_now(batches.histories, model, average),
        "seconds": round(time.perf_counter() - began, 1),
    }
    told = {
        "loss": np.float32(0),
        "best": np.maximum(np.float32(state.best), np.float32(score)),
        "best_step": np.int32(now) if kept else np.int32(state.best_step),
        "stale": np.int32(0 if better else int(state.stale) + 1),
        "near": np.int32(near),
    }
    updated = state.replace(**layout.everywhere(jax.tree.map(jnp.asarray, told)))
    return updated, line, {"ndcg@10": score, "settled": float(settled and kept)}


def _free(loaded: Any, layout: Layout) -> Any:
    """Loaded arrays as fresh ones are: committed to a device, as they come, every step would be compiled
    anew for them, or for those that a run goes on from."""
    return jax.tree.map(jnp.asarray, jax.device_get(loaded)) if layout.mesh is None else loaded


def _resume(run: Path, checkpoints: Any, state: State, stream: Any, layout: Layout) -> State:
    tree = checkpointing.ocp.arrays.to_shape_dtype_struct
    abstract = _parts(jax.tree.map(tree, state), stream)
    try:
        with checkpointing.any_rows():
            loaded = checkpoints.load_checkpointables(abstract_checkpointables=abstract)
        return _free(loaded["state"].replace(average=loaded["average"]), layout)
    except Exception as error:
        raise InputError(
            f"{run / 'checkpoints'}: the latest checkpoint cannot be read ({type(error).__name__}); "
            "delete it to resume from the one before"
        ) from error


def _parts(state: State, stream: Any) -> dict[str, Any]:
    """What a checkpoint holds: the averaged parameters apart, since they are all that serving loads."""
    return {
        "state": state.replace(average=None),
        "average": state.average,
        "data": checkpointing.Position(stream),
    }


def _save(run: Path, checkpoints: Any, now: int, state: State, stream: Any, metrics: Any) -> None:
    """Saves in the background; the state is copied first, because the next step donates it."""
    kept = jax.tree.map(jnp.copy, state)
    with _saving(run):
        checkpoints.save_checkpointables_async(now, _parts(kept, stream), metrics=metrics)


@contextlib.contextmanager
def _saving(run: Path) -> Iterator[None]:
    """Whatever a checkpoint came to grief on (a full disk, above all), in one line; that of a save in the
    background comes up at the next one or at `wait`."""
    try:
        yield
    except Exception as error:  # OSError, ValueError or another, by the library that was writing
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(
            f"{run / 'checkpoints'}: the last checkpoint could not be saved ({reason}); "
            "those before it are whole: free space and run the same command again"
        ) from error


def _finite(loss: Any, step: int, batches: Batches) -> None:
    """Looks at a loss one step late, so that the device is never waited for."""
    if loss is None or np.isfinite(loss):
        return
    epoch = (step - 1) // batches.per_epoch
    users = np.unique(batches[step - 1].history.user)
    users = ", ".join(map(str, users[users < batches.histories.known_users][:5]))
    raise InputError(
        f"the loss is {float(loss)} at step {step} (batch {step - 1}, epoch {epoch}): lower "
        "--train.learning-rate, or look for extreme weights or numbers in the events of its users (index "
        f"{users}, ... in users.parquet of the prepared log)"
    )


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a wish to stop after this step; a second SIGINT interrupts at
    once."""
    wish: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if wish and number == signal.SIGINT:
            raise KeyboardInterrupt
        wish.append(number)

    try:
        old = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's to handle
        old = {}
    try:
        yield lambda: bool(wish)
    finally:
        for number, handler in old.items():  # None: not Python's, and so not to be put back by it
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
