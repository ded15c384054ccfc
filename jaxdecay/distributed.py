"""Several processes as one program: the call that joins them, the mesh of their devices, and what they agree
on.

Every process runs the same script on the same files. With one process nothing here costs anything: there is
nobody to ask.

    export JAX_COORDINATOR_ADDRESS=first-machine:1234 JAX_NUM_PROCESSES=2
    JAX_PROCESS_ID=0 jaxdecay train DIR --out RUN     # on the first machine
    JAX_PROCESS_ID=1 jaxdecay train DIR --out RUN     # on the second
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdecay.errors import InputError

DATA, MODEL = "data", "model"
"""The axes of a mesh: histories lie along the first, the item table along the second."""
_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"

T = TypeVar("T")


@dataclass(frozen=True)
class MeshOptions:
    """Which devices training runs on. They change no result beyond rounding, and a run may go on with
    others."""

    devices: int | None = None
    """Devices to train on; default: all accelerators. Processors that are simulated share the same cores: of
    them one process takes one, unless more are asked for."""
    model_parallel: int = 1
    """Devices that share one item table, with its average and optimiser state; histories are shared out over
    the others."""


def initialise() -> None:
    """Joins the processes of which ``JAX_COORDINATOR_ADDRESS`` (host:port of process 0),
    ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` tell; does nothing without them, for one process,
    and when called again.

    Call it before anything else of JAX. Under Slurm or the like, set the three from its own variables. Raises
    InputError when only some are set, or they do not fit together.
    """
    given = {name: os.environ[name] for name in (_ADDRESS, _COUNT, _INDEX) if os.environ.get(name)}
    if not given or jax.distributed.is_initialized():
        return
    count, index = (_whole(name, given[name]) if name in given else None for name in (_COUNT, _INDEX))
    if count == 1 and not index:
        return
    missing = [name for name in (_ADDRESS, _COUNT, _INDEX) if name not in given]
    if missing:
        there = " and ".join(f"{name}={value}" for name, value in given.items())
        raise InputError(
            f"{there} without {' and '.join(missing)}: set all three for several processes, none for one"
        )
    assert count is not None
    assert index is not None
    if not 0 <= index < count:
        raise InputError(f"{_INDEX}={index} with {_COUNT}={count}: give each process one of 0 to {count - 1}")
    if not given[_ADDRESS].rpartition(":")[2].isdigit() or ":" not in given[_ADDRESS]:
        raise InputError(f"{_ADDRESS}={given[_ADDRESS]}: give host:port of process 0")
    jax.distributed.initialize(given[_ADDRESS], count, index)
    # It listens to SIGTERM itself, below Python and in the place of whoever listened before.
    handler = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _whole(name: str, text: str) -> int:
    if not text.isdigit():
        raise InputError(f"{name}={text}: give a whole number")
    return int(text)


def mesh(data: int | None = None, model: int = 1) -> Mesh:
    """``data`` times ``model`` devices (default: all there are), those of one process side by side.

    Raises InputError when there are not so many, when several processes would not all take part alike, or
    when the devices of a process cannot be shared out into whole item tables or whole shares of one.
    """
    there = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if model < 1 or (data is None and len(there) % model):
        raise InputError(
            f"model_parallel={model}: give a divisor of the number of devices, which is {len(there)}"
        )
    data = len(there) // model if data is None else data
    if data < 1 or data * model > len(there):
        raise InputError(f"a mesh of {data} times {model} devices: JAX finds {len(there)}; ask for fewer")
    if jax.process_count() > 1:
        own = jax.local_device_count()
        if data * model != len(there):
            raise InputError(
                f"{data * model} of {len(there)} devices: several processes train on all;"
                " leave it out, or hide devices from every process"
            )
        if own % model and model % own:
            raise InputError(
                f"model_parallel={model} with {own} devices in each process: give a divisor or a multiple"
            )
    # Explicit axes, JAX's default, would have every gather of the model name its sharding.
    return Mesh(
        np.array(there[: data * model]).reshape(data, model), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2
    )


def mesh_of(options: MeshOptions) -> Mesh:
    """The mesh that the options ask for."""
    if options.model_parallel < 1:
        raise InputError(f"model_parallel={options.model_parallel}: give a divisor of the number of devices")
    if options.devices is not None and (options.devices < 1 or options.devices % options.model_parallel):
        raise InputError(
            f"devices={options.devices}: give a multiple of model_parallel={options.model_parallel}"
        )
    devices = options.devices
    if devices is None and jax.process_count() == 1 and jax.default_backend() == "cpu":
        devices = options.model_parallel
    return mesh(devices and devices // options.model_parallel, options.model_parallel)


def leading() -> bool:
    """Whether this is process 0: the one that writes and prints."""
    return jax.process_index() == 0


def by_first(do: Callable[[], T]) -> T:
    """What ``do`` gives in process 0, which alone calls it; to the others it comes as JSON.

    An error there is raised there as it is, and in the others as an InputError.
    """
    if jax.process_count() == 1:
        return do()
    said, failed = "", None
    if leading():
        try:
            said = json.dumps({"value": do()})
        except Exception as error:  # the others wait for an answer in any case
            failed = error
            text = str(error) if isinstance(error, InputError) else f"process 0: {error!r}"
            said = json.dumps({"error": text})
    data = np.frombuffer(said.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    data = multihost_utils.broadcast_one_to_all(data if leading() else np.zeros(length, np.uint8))
    if failed is not None:
        raise failed
    found = json.loads(np.asarray(data, np.uint8).tobytes())
    if "error" in found:
        raise InputError(found["error"])
    return found["value"]


def any_process(wish: bool) -> bool:
    """Whether it is so in any process; waits for all of them."""
    if jax.process_count() == 1:
        return wish
    return bool(np.any(multihost_utils.process_allgather(np.int32(wish))))


def own_share() -> slice:
    """Those of a list of pieces of work that are this process's: every P-th of P processes."""
    return slice(jax.process_index(), None, jax.process_count())


def gathered(values: np.ndarray, total: int) -> np.ndarray:
    """(total,) float64: what all processes found for their `own_share` of ``total`` pieces, to the bit."""
    processes = jax.process_count()
    if processes == 1:
        return values
    padded = np.zeros(-(-total // processes), np.float64)
    padded[: len(values)] = values
    # as 32-bit words, because JAX would round to float32
    words = np.asarray(multihost_utils.process_allgather(padded.view(np.uint32)))
    return np.ascontiguousarray(words).view(np.float64).T.reshape(-1)[:total]


class Agreement:
    """Whether any process wishes to stop, answered alike in all of them at the same step.

    Nothing is waited for: with several processes the answer is that of the step before.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        self._mesh = mesh if jax.process_count() > 1 else None
        self._before: Any = None
        if self._mesh is not None:
            self._any = jax.jit(jnp.max, out_shardings=NamedSharding(self._mesh, PartitionSpec()))

    def __call__(self, wish: bool) -> bool:
        if self._mesh is None:
            return wish
        everywhere = NamedSharding(self._mesh, PartitionSpec((DATA, MODEL)))
        own = np.full(jax.local_device_count(), wish, np.int32)
        wishes = jax.make_array_from_process_local_data(everywhere, own, (self._mesh.size,))
        before, self._before = self._before, self._any(wishes)
        return before is not None and bool(before)
