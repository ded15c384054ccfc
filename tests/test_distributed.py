"""One device, a mesh of four, and two processes: the same losses and scores, each from the checkpoints of the
others.

The layouts train at the same time, each in processes of its own (`tests/on_devices.py`); four devices are
simulated on the processor.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import toys
from jax.sharding import NamedSharding, PartitionSpec
from test_batches import batches, events
from test_resume import scripted
from tiny import tiny_events
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import checkpointing, distributed, loop
from jaxdecay.data.prepare import prepare
from jaxdecay.errors import InputError
from jaxdecay.layout import Layout
from jaxdecay.model import Interest, abstract_params
from jaxdecay.spec import Spec
from jaxdecay.train import init_params

EPOCHS = 3  # two, and one of settling
JOBS = {
    "one": ["one", "one-after-two"],
    "four": ["square", "four-after-one"],
    "two": ["two", "two-after-square"],
}
"""What each group of processes trains, one after another: four devices as a `square` of two by two, or `four`
along ``data``. `after` goes on from the first epoch of that run."""
TIMEOUT = 240


def start(name: str, folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    """The processes of a layout."""
    devices = 4 if name == "four" else 1
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]),
    }
    if name == "two":
        environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    command = [sys.executable, str(Path(__file__).parent / "on_devices.py"), str(folder), *JOBS[name]]
    started = []
    for index in range(2 if name == "two" else 1):
        own = environment | ({"JAX_PROCESS_ID": str(index)} if name == "two" else {})
        with (folder / f"{name}-{index}.txt").open("w") as said:
            started.append(subprocess.Popen(command, env=own, stdout=said, stderr=subprocess.STDOUT))
    return started


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of all layouts, beside what each process printed."""
    try:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
    except OSError as error:
        pytest.skip(f"two processes need a local port to meet at, and there is none here ({error})")
    folder = tmp_path_factory.mktemp("layouts")
    prepare(tiny_events().drop("behaviour", "device"), folder / "prepared")
    started = {
        f"{name}-{index}": process for name in JOBS for index, process in enumerate(start(name, folder, port))
    }
    deadline = time.monotonic() + TIMEOUT
    try:
        while any(process.poll() is None for process in started.values()):
            late = [name for name, process in started.items() if process.poll() is None]
            assert time.monotonic() < deadline, f"not done in time: {late}"
            for name, process in started.items():  # one that failed keeps others waiting
                said = (folder / f"{name}.txt").read_text()[-4000:] if process.poll() else ""
                assert not process.poll(), f"{name}:\n{said}"
            time.sleep(0.2)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(started, 0)
    return folder


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("run", [run for runs in JOBS.values() for run in runs if run != "one"])
def test_every_layout_has_the_losses_and_scores_of_one_device(trained: Path, run: str) -> None:
    found, wanted = lines(trained / run), lines(trained / "one")
    assert len(found) == len(wanted) == EPOCHS
    for line, other in zip(found, wanted, strict=True):
        for name in ("step", "epoch", "settled", "kept"):
            assert line[name] == other[name]
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert line["ndcg@10"] == pytest.approx(other["ndcg@10"], rel=1e-5)
    assert len({line["loss"] for line in wanted}) == EPOCHS  # there is something to differ


def test_every_checkpoint_serves_on_one_device(trained: Path) -> None:
    config = json.loads((trained / "one" / "config.json").read_text())
    model = Interest(Spec.from_json(config["spec"]))
    step = checkpointing.best_step(trained / "one")
    wanted = checkpointing.load_average(trained / "one", step, abstract_params(model))
    for run in ("four-after-one", "square", "two"):
        assert checkpointing.best_step(trained / run) == step
        found = checkpointing.load_average(trained / run, step, abstract_params(model))
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_only_the_first_process_writes_and_prints(trained: Path) -> None:
    assert "epoch" in (trained / "two-0.txt").read_text()
    assert "epoch" not in (trained / "two-1.txt").read_text()


def test_a_signal_to_one_process_stops_all_after_the_same_step(trained: Path) -> None:
    stopped = [json.loads((trained / f"stopped-{index}.json").read_text()) for index in range(2)]
    assert stopped[0]["reached"] == stopped[1]["reached"] == stopped[0]["saved"]
    assert stopped[0]["signalled"] <= stopped[0]["saved"] <= stopped[0]["signalled"] + 1
    assert stopped[0]["saved"] < lines(trained / "one")[0]["step"]


def square(model: int = 2) -> jax.sharding.Mesh:
    if jax.device_count() < 2:
        pytest.skip("one device: XLA_FLAGS was set to something else before these tests began")
    return distributed.mesh(2 // model, model)


def test_a_shared_item_table_settles_from_the_best_and_its_rows_of_zeros_stay(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "patience": 1, "settle_epochs": 1}
    script = (0.5, 0.3, 0.6)
    one = toys.train(tmp_path / "one", scripted(*script), **options)
    (made, chosen), mesh = toys.training(**options), square()
    items = made.model.spec.items
    assert items % 2 == 1
    parts = (made.model, made.optimizer, made.batches, made.constants)
    state = loop.train(tmp_path / "mesh", *parts, scripted(*script), chosen, mesh=mesh)
    assert int(one.settling) == int(state.settling) == 6
    for tree in (state.params, state.average):
        for name in ("embedding", "bias"):
            table = tree["similarity"][name]
            assert table.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("model")), table.ndim)
            assert table.addressable_shards[0].data.shape[0] == (items + 1) // 2
            assert not np.asarray(table)[items:].any()
            assert np.asarray(table)[:items].all()
    moments = [x for x in jax.tree.leaves(state.optimizer) if x.shape[:1] == (items + 1,)]
    assert len(moments) >= 4  # two for each table
    assert not any(np.asarray(x)[items:].any() for x in moments)
    assert all(x.addressable_shards[0].data.shape[0] < items for x in moments)
    whole = Layout.of(mesh, made.model).whole(state.average)
    for found, wanted in zip(jax.tree.leaves(whole), jax.tree.leaves(one.average), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_layout_puts_together_what_it_took_apart() -> None:
    made = toys.quick()
    params = jax.jit(lambda constants: init_params(made.model, constants, 0))(made.constants)
    for model in (1, 2):
        layout = Layout.of(square(model), made.model)
        whole = layout.whole(layout.params(params))
        assert jax.tree.structure(whole) == jax.tree.structure(params)
        for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(params), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("hosts", "multiple"), [(1, 4), (2, 4), (3, 3), (1, 8)])
def test_batches_hold_the_same_targets_whatever_they_are_filled_up_to(hosts: int, multiple: int) -> None:
    histories = toys.log((45, 20, 9, 9, 30, 3, 17))
    one = batches(histories)
    several = [batches(histories, host=host, hosts=hosts, multiple=multiple) for host in range(hosts)]
    assert {source.per_epoch for source in several} == {one.per_epoch}
    for step in range(2 * one.per_epoch):
        parts = [source[step] for source in several]
        assert sorted(np.concatenate([events(part) for part in parts])) == sorted(events(one[step]))
        assert sum(len(part.valid) for part in parts) % multiple == 0
        assert sum(len(part.valid) for part in parts) < len(one[step].valid) + multiple * hosts


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "without JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID"),
        ({"JAX_COORDINATOR_ADDRESS": "localhost:1"}, "without JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "without JAX_COORDINATOR_ADDRESS"),
        ({"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID=one: give a whole number"),
        ({"address": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "one of 0 to 1"),
        ({"address": "localhost", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, "give host:port"),
    ],
)
def test_an_environment_set_by_halves_is_refused(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS" if name == "address" else name, value)
    with pytest.raises(InputError, match=words) as caught:
        distributed.initialise()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "environment", [{}, {"JAX_NUM_PROCESSES": "1"}, {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}]
)
def test_one_process_joins_nobody(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialise()
    assert not jax.distributed.is_initialized()
    assert distributed.by_first(lambda: [1, "a"]) == [1, "a"]
    assert distributed.any_process(True)


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_parallel": 3}, "1 times 3 devices: JAX finds"),
        ({"model_parallel": 0}, "model_parallel=0: give a divisor"),
        ({"devices": 64}, "64 times 1 devices: JAX finds"),
        ({"devices": 0}, "devices=0"),
        ({"devices": 3, "model_parallel": 2}, "devices=3: give a multiple of model_parallel=2"),
    ],
)
def test_devices_that_are_not_there_are_refused(options: dict[str, int], words: str) -> None:
    if jax.device_count() != 2:
        pytest.skip("meant for the two devices of tests/conftest.py")
    with pytest.raises(InputError, match=words):
        distributed.mesh_of(distributed.MeshOptions(**options))


def test_a_mesh_of_one_device_is_none() -> None:
    made = toys.quick()
    layout = Layout.of(distributed.mesh(1), made.model)
    assert layout == Layout()
    assert layout.batches(made.batches) is made.batches
