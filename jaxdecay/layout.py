"""Where a training run's arrays lie on a mesh: histories along ``data``, the item table along ``model``.

| what | along ``data`` | along ``model`` |
|---|---|---|
| a batch's rows, and what is read of their histories | shared out | the same |
| parameters with a row per item, their average and optimiser state | the same | shared out |
| all other parameters and state, the constants | the same | the same |
| scoring the catalogue for the targets of a batch | shared out | shared out |

Where numbers do not divide, a batch is given empty rows and an item table rows of zeros. The latter stay
zeros: nothing reads them, so that nothing moves them. They are in checkpoints too, and are cut or added where
those are read (`jaxdecay.checkpointing`), so that every layout goes on from every other. A batch holds the
same targets in all of them; only the order of sums differs.

What ``model`` saves is the memory of what lasts: parameters, average and moments. A step puts the item table
together on every device, for histories name items of all parts (when left to partition these reads by items,
XLA lost part of a gradient on a mesh with both axes), and validation holds one whole copy on a device of each
process. So a table, its gradient and the scores of a tile must fit on one device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.distributed import DATA, MODEL
from jaxdecay.model import Interest, abstract_params


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one model's training lies on a mesh; everything is left as it is without one."""

    mesh: Mesh | None = None
    tables: tuple[tuple[str, ...], ...] = ()
    """Paths of the parameters with a row per item, where they are shared out."""
    items: int = 0

    @classmethod
    def of(cls, mesh: Mesh | None, model: Interest) -> "Layout":
        """The layout of a model's training; a mesh of one device is none."""
        if mesh is None or mesh.size == 1:
            return cls()
        items = model.spec.items
        return cls(mesh, tables_by(model, "items") if mesh.shape[MODEL] > 1 else (), items)

    @property
    def shards(self) -> int:
        """Devices that a batch's rows are shared out over."""
        return 1 if self.mesh is None else self.mesh.shape[DATA]

    def batches(self, batches: Batches) -> Batches:
        """The same batches, of which this process makes the rows that its devices need."""
        if self.mesh is None:
            return batches
        host, hosts = self._place()
        return dataclasses.replace(batches, host=host, hosts=hosts, multiple=self.mesh.size)

    def batch(self, batch: Batch) -> Batch:
        """A batch (or this process's rows of it) on the devices."""
        if self.mesh is None:
            return batch
        rows = NamedSharding(self.mesh, PartitionSpec(DATA))
        if jax.process_count() == 1:
            return jax.device_put(batch, rows)
        hosts = self._place()[1]

        def put(x: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(rows, x, (x.shape[0] * hosts, *x.shape[1:]))

        return jax.tree.map(put, batch)

    def everywhere(self, tree: Any) -> Any:
        """Arrays that every process has, whole on every device."""
        return tree if self.mesh is None else self._put(tree, lambda path: PartitionSpec())

    def params(self, params: Any) -> Any:
        """Whole parameters, which every process has, as they lie on the mesh."""
        if self.mesh is None:
            return params
        spare = -self.items % self.mesh.shape[MODEL]

        def pad(path: Any, x: Any) -> Any:
            if not self._is_table(path):
                return x
            return jnp.pad(x, [(0, spare)] + [(0, 0)] * (x.ndim - 1))

        return self._put(jax.tree.map_with_path(pad, params), self._spec)

    def trimmed(self, params: Any) -> Any:
        """Inside `jax.jit`: the parameters as the model knows them, without the rows of zeros, each whole on
        every device."""
        if not self.tables:
            return params
        assert self.mesh is not None
        whole = NamedSharding(self.mesh, PartitionSpec())

        def trim(path: Any, x: Any) -> Any:
            if not self._is_table(path):
                return x
            return jax.lax.with_sharding_constraint(x, whole)[: self.items]

        return jax.tree.map_with_path(trim, params)

    def whole(self, params: Any) -> Any:
        """Parameters on one device of this process, as the model knows them."""
        if self.mesh is None:
            return params
        return jax.tree.map(lambda x: x.addressable_data(0), self._gather(params))

    def kept(self, tree: Any) -> Any:
        """Inside `jax.jit`: parameters, or a state that holds them, lie as they should."""
        mesh = self.mesh
        if mesh is None:
            return tree

        def keep(path: Any, x: Any) -> Any:
            return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, self._spec(path)))

        return jax.tree.map_with_path(keep, tree)

    def by_rows(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Inside `jax.jit`: a function of arrays with a row per target, called for each device's rows.

        Loops over blocks of rows then run over each device's own, and what they sum is added up once at the
        end instead of in every turn.
        """
        mesh = self.mesh
        if mesh is None:
            return f
        devices = NamedSharding(mesh, PartitionSpec((DATA, MODEL)))

        def split(x: jax.Array) -> jax.Array:
            return jax.lax.with_sharding_constraint(x.reshape(mesh.size, -1, *x.shape[1:]), devices)

        def sharded(*rows: Any) -> Any:
            found = jax.vmap(f)(*jax.tree.map(split, rows))
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

        return sharded

    def _place(self) -> tuple[int, int]:
        """Which of how many equal stretches of a batch's rows are this process's; processes that share an
        item table have the same."""
        assert self.mesh is not None
        me = jax.process_index()
        rows = [i for i, row in enumerate(self.mesh.devices) if any(d.process_index == me for d in row)]
        return rows[0] // len(rows), self.shards // len(rows)

    def _is_table(self, path: Any) -> bool:
        names = tuple(getattr(key, "key", getattr(key, "name", None)) for key in path)
        return any(names[-len(table) :] == table for table in self.tables)

    def _spec(self, path: Any) -> PartitionSpec:
        return PartitionSpec(MODEL) if self._is_table(path) else PartitionSpec()

    def _put(self, tree: Any, spec: Callable[[Any], PartitionSpec]) -> Any:
        mesh = self.mesh
        assert mesh is not None

        def put(path: Any, x: Any) -> jax.Array:
            sharding = NamedSharding(mesh, spec(path))
            if jax.process_count() == 1:
                return jax.device_put(x, sharding)
            here = np.asarray(x)
            return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

        return jax.tree.map_with_path(put, tree)

    @functools.cached_property
    def _gather(self) -> Callable[[Any], Any]:
        assert self.mesh is not None
        return jax.jit(self.trimmed, out_shardings=NamedSharding(self.mesh, PartitionSpec()))


def tables_by(model: Interest, of: Literal["items", "users"]) -> tuple[tuple[str, ...], ...]:
    """Paths of the parameters with a row per item, or per user: those that one more would give a row more."""
    more = Interest(dataclasses.replace(model.spec, **{of: getattr(model.spec, of) + 1}))
    before, after = (jax.tree.leaves_with_path(abstract_params(one)) for one in (model, more))
    return tuple(
        tuple(key.key for key in path)
        for (path, x), (_, y) in zip(before, after, strict=True)
        if x.shape != y.shape
    )
