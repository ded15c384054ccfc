"""Histories: layout, round trip, and every way a prepared directory can be damaged."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdecay.data import store
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

USER = np.array([1, 0, 0, 1, 0, 3])
ITEM = np.array([4, 1, 2, 0, 3, 3])
TIME = np.array([50, 30, 10, 50, 30, 7])


def make() -> Histories:
    return Histories.from_arrays(
        USER,
        ITEM,
        TIME,
        users=4,
        weight=np.arange(6) / 2,
        context_numeric=np.arange(12).reshape(6, 2),
        item_categorical=np.arange(5)[:, None],
        config={"options": {"a": 1}, "split": {"kind": "global-time"}},
    )


def test_sorted_by_user_then_time_then_given_order() -> None:
    histories = make()
    assert histories.offsets.tolist() == [0, 3, 5, 5, 6]
    assert histories.item.tolist() == [2, 1, 3, 4, 0, 3]
    assert histories.time.tolist() == [10, 30, 30, 50, 50, 7]
    assert histories.weight.tolist() == [1.0, 0.5, 2.0, 0.0, 1.5, 2.5]
    assert histories.context_numeric[:, 0].tolist() == [4, 2, 8, 0, 6, 10]
    assert histories.user().tolist() == [0, 0, 0, 1, 1, 3]
    assert (histories.users, histories.items, histories.events) == (4, 5, 6)
    assert (histories.known_users, histories.known_items) == (4, 5)


def test_defaults_and_dtypes() -> None:
    histories = Histories.from_arrays(np.array([0, 0]), np.array([1, 0]), np.array([5, 6]))
    assert histories.weight.tolist() == [1, 1]
    assert np.isnan(histories.label).all()
    assert histories.behaviour.tolist() == histories.part.tolist() == [0, 0]
    dtypes = {name: str(array.dtype) for name, array in histories.arrays().items()}
    assert dtypes["offsets"] == dtypes["time"] == "int64"
    assert dtypes["item"] == dtypes["context_categorical"] == "int32"
    assert dtypes["part"] == dtypes["behaviour"] == "int8"
    assert histories.clock == "utc"
    assert histories.repeat_share == 0


def test_rows_of_users() -> None:
    rows, starts = make().rows(np.array([3, 2, 0]))
    assert rows.tolist() == [5, 0, 1, 2]
    assert starts.tolist() == [0, 1, 1, 4]
    rows, starts = make().rows(np.array([], np.int64))
    assert rows.tolist() == []
    assert starts.tolist() == [0]


def test_replace_changes_one_field_only() -> None:
    histories = make()
    fold = np.full(6, -1, np.int8)
    assert histories.replace(part=fold).part is fold
    assert histories.replace(part=fold).item is histories.item
    assert histories.part.tolist() == [0] * 6


def test_configurations_do_not_share_state() -> None:
    make().config["behaviours"].append("view")
    assert make().config["behaviours"] == []


def test_round_trip_is_exact_and_memory_mapped(tmp_path: Path) -> None:
    histories = make()
    histories.save(tmp_path / "prepared")
    loaded = Histories.load(tmp_path / "prepared", verify=True)
    assert loaded.config == histories.config
    for name, array in histories.arrays().items():
        other = getattr(loaded, name)
        assert other.dtype == array.dtype, name
        np.testing.assert_array_equal(other, array, err_msg=name)
        assert not other.flags.writeable, name
    assert isinstance(loaded.item.base, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_round_trip_without_events(tmp_path: Path) -> None:
    empty = np.array([], np.int64)
    Histories.from_arrays(empty, empty, empty).save(tmp_path / "prepared")
    assert Histories.load(tmp_path / "prepared", verify=True).events == 0


def test_fingerprint_follows_arrays_and_options() -> None:
    arrays = make().arrays()
    first = store.fingerprint(arrays, {"a": 1})
    assert first == make().config["fingerprint"]
    assert store.fingerprint(arrays, {"a": 2}) != first
    changed = {**arrays, "time": arrays["time"] + np.array([0, 0, 0, 0, 0, 1])}
    assert store.fingerprint(changed, {"a": 1}) != first
    assert store.fingerprint({**arrays, "part": arrays["part"].astype(np.int16)}, {"a": 1}) != first


def test_save_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"other: holds something else"):
        make().save(other, overwrite=True)
    assert (other / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match=r"thesis\.txt: is a file"):
        make().save(other / "thesis.txt", overwrite=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    make().save(empty)
    assert Histories.load(empty).events == 6


def test_overwrites_a_prepared_directory_only_when_asked(tmp_path: Path) -> None:
    make().save(tmp_path / "prepared")
    smaller = Histories.from_arrays(np.array([0]), np.array([0]), np.array([0]))
    with pytest.raises(InputError, match="--overwrite"):
        smaller.save(tmp_path / "prepared")
    assert Histories.load(tmp_path / "prepared").events == 6
    smaller.save(tmp_path / "prepared", overwrite=True)
    assert Histories.load(tmp_path / "prepared").events == 1
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), InputError),
    ],
)
def test_nothing_is_left_of_a_save_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, seen: type[BaseException]
) -> None:
    make().save(tmp_path / "old")
    real = np.save

    def full(file: Path, array: np.ndarray, **options: bool) -> None:
        if "time" in Path(file).name:
            raise failure
        real(file, array, **options)

    monkeypatch.setattr(np, "save", full)
    for name in ("new", "old"):
        with pytest.raises(seen):
            make().save(tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert Histories.load(tmp_path / "old", verify=True).events == 6


def damage_missing(path: Path) -> str:
    (path / "time.npy").unlink()
    return r"time\.npy: missing"


def damage_truncated(path: Path) -> str:
    file = path / "time.npy"
    file.write_bytes(file.read_bytes()[:-1])
    return r"time\.npy: damaged or cut short"


def damage_header(path: Path) -> str:
    (path / "item.npy").write_bytes(b"\x93NUMPY")
    return r"item\.npy: damaged or cut short"


def damage_empty(path: Path) -> str:
    (path / "item.npy").write_bytes(b"")
    return r"item\.npy: damaged or cut short"


def damage_pickle(path: Path) -> str:
    np.save(path / "item.npy", np.array([None] * 6, object), allow_pickle=True)
    return r"item\.npy: damaged or cut short"


def damage_dtype(path: Path) -> str:
    np.save(path / "item.npy", np.zeros(6, np.int64))
    return r"item\.npy: is int64\[6\], but prepared\.json says int32\[6\]"


def damage_length(path: Path) -> str:
    np.save(path / "item.npy", np.zeros(5, np.int32))
    return r"item\.npy: is int32\[5\], but prepared\.json says int32\[6\]"


def damage_consistently(path: Path) -> str:
    np.save(path / "item.npy", np.zeros(5, np.int32))
    config = json.loads((path / "prepared.json").read_text())
    config["arrays"]["item"]["shape"] = [5]
    (path / "prepared.json").write_text(json.dumps(config))
    return r"item\.npy: is int32\[5\], expected 1-d int32 with 6 rows"


def damage_offsets(path: Path) -> str:
    np.save(path / "offsets.npy", np.array([0, 4, 2, 5, 6]))
    return r"offsets\.npy: does not rise"


def damage_half_written(path: Path) -> str:
    (path / "prepared.json").unlink()
    return r"prepared\.json: missing, so this is no prepared log or a half-written one"


def damage_json(path: Path) -> str:
    (path / "prepared.json").write_text('{"format": 1, "spl')
    return r"prepared\.json: cannot be read"


def damage_json_type(path: Path) -> str:
    (path / "prepared.json").write_text("[1]")
    return r"prepared\.json: format None"


def damage_json_entry(path: Path) -> str:
    config = json.loads((path / "prepared.json").read_text())
    del config["counts"]
    (path / "prepared.json").write_text(json.dumps(config))
    return r"prepared\.json: no entry 'counts'"


def damage_version(path: Path) -> str:
    config = json.loads((path / "prepared.json").read_text())
    (path / "prepared.json").write_text(json.dumps({**config, "format": 99}))
    return r"prepared\.json: format 99, but this version of jaxdecay reads format 1"


def damage_gone(path: Path) -> str:
    path.rename(path.with_name("elsewhere"))
    return r"prepared: no such directory"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_in_one_line_naming_the_file(tmp_path: Path, damage) -> None:
    make().save(tmp_path / "prepared")
    message = damage(tmp_path / "prepared")
    with pytest.raises(InputError, match=message) as caught:
        Histories.load(tmp_path / "prepared")
    assert "\n" not in str(caught.value)
    assert "jaxdecay prepare" in str(caught.value)


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    make().save(tmp_path / "prepared")
    np.save(tmp_path / "prepared" / "item.npy", np.zeros(6, np.int32))
    Histories.load(tmp_path / "prepared")
    with pytest.raises(InputError, match="not those that were written"):
        Histories.load(tmp_path / "prepared", verify=True)


def test_reading_prepared_arrays_needs_numpy_only(root: Path) -> None:
    code = (
        "import sys, jaxdecay.data.histories, jaxdecay.data.split, jaxdecay.data.catalogue;"
        "print(sorted({'jax', 'polars', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
