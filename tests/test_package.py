"""The package as a whole: lazy names, one version, the doctor, and imports that run downwards only."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxdecay
from jaxdecay import doctor

PACKAGE = Path(jaxdecay.__file__).parent

# The floors, lowest first: a module imports from its own floor and from those below, never upwards.
FLOORS = (
    "errors expect names durations files memory",
    "kernels phase modes basis terms algebra chains clocks expsum visibility scan hybrid inorder readout"
    " attention divergence alarms history",
    "interest state state_numpy divergence_numpy fading deviations gate encoders language tally scorer heads"
    " spec model",
    "losses metrics rank pools lists bootstrap priors",
    "data",
    "train objective optimizer titles model_options configure loop assembly fitting runs checkpointing"
    " scoring predict frozen finetune"
    " carried evaluate outcomes groups figures results protocol assess presets policy"
    " curves spreads embed posterior refit laplace influence half_lives intervals tune crossvalidate"
    " baselines distributed layout privacy",
    "ids columns listed moments asked serving parts generations arrivals update steering exposure rerank"
    " explore groupings cases explain counterfactuals streams drift monitor changes cohorts watch strategies"
    " react steered trial live loaded insight trained recommend tradeoff",
    "cli commands settings progress serve retrain plots findings pictures page report export doctor __main__",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}

# What a machine that only trains need not have (floors 1 to 3, and the modules named here).
TRAINING = {
    *(
        "data.histories",
        "data.catalogue",
        "data.batches",
        "data.gather",
        "data.requests",
        "train",
        "optimizer",
        "configure",
    ),
    *("objective", "loop", "assembly", "runs", "checkpointing", "predict", "evaluate", "baselines"),
    "model_options",
}
HEAVY = ("polars", "pandas", "pyarrow", "matplotlib", "sklearn", "scipy.optimize", "tyro")


def modules() -> dict[str, Path]:
    """Dotted name inside the package to file, without the package's own `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imported(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, anywhere in it."""
    package = ["jaxdecay", *name.split(".")][: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", modules())
def test_every_module_has_a_floor(name: str) -> None:
    assert name.split(".")[0] in FLOOR, f"give {name} a floor in FLOORS, as low as it can stand"


@pytest.mark.parametrize("name", modules())
def test_imports_run_downwards_only(name: str) -> None:
    own = FLOOR.get(name.split(".")[0], len(FLOORS))
    upwards = [
        f"line {line} of jaxdecay.{name} imports {target}, which stands above it"
        for line, target in imported(modules()[name], name)
        if target == "jaxdecay"
        or (target.startswith("jaxdecay.") and FLOOR.get(target.split(".")[1], -1) > own)
    ]
    assert not upwards


@pytest.mark.parametrize("name", modules())
def test_nothing_imports_nnx(name: str) -> None:
    assert not [line for line, target in imported(modules()[name], name) if target.startswith("flax.nnx")]


@pytest.mark.parametrize(
    "path", sorted((PACKAGE.parent / "scripts").glob("*.py")), ids=lambda path: path.name
)
def test_a_script_finds_what_it_imports_beside_itself(path: Path) -> None:
    """Tests have more folders on their path than a script that is run by itself."""
    scripts = path.parent
    beside = {one.stem for one in scripts.iterdir() if one.suffix == ".py" or one.is_dir()}
    inner = {one.stem for one in scripts.rglob("*.py")} | {
        one.stem for one in Path(__file__).parent.glob("*.py")
    }
    roots = {target.partition(".")[0] for _, target in imported(path, path.stem)}
    assert not roots & inner - beside


def test_importing_the_package_imports_neither_jax_nor_polars() -> None:
    loaded = run_python("import sys, jaxdecay; print(*sys.modules)").split()
    assert "jaxdecay" in loaded
    assert not {"jax", "polars", "numpy", "flax", "importlib.metadata"} & set(loaded)


def test_training_needs_no_data_library() -> None:
    needed = sorted(
        name for name in modules() if 1 <= FLOOR.get(name.split(".")[0], 9) <= 3 or name in TRAINING
    )
    lines = [f"import jaxdecay.{name}" for name in needed]
    loaded = set(run_python("\n".join(["import sys", *lines, "print(*sys.modules)"])).split())
    assert not loaded & set(HEAVY), f"one of {', '.join(needed)} imports it when imported"


def test_public_names_are_there() -> None:
    for name in jaxdecay.__all__:
        assert getattr(jaxdecay, name) is not None
        assert name in dir(jaxdecay)
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = jaxdecay.nothing_of_the_kind


def test_submodules_are_attributes() -> None:
    output = run_python(
        "import jaxdecay as jd; print(jd.errors.InputError is jd.InputError, 'errors' in dir(jd))"
    )
    assert output.split() == ["True", "True"]


def test_no_module_hides_a_public_name() -> None:
    """Importing a module `fit` anywhere would put it in the place of the function `jaxdecay.fit`."""
    assert not set(jaxdecay.__all__) & set(modules())


def test_version_is_said_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", jaxdecay.__version__)
    assert "\nversion" not in (PACKAGE.parent / "pyproject.toml").read_text().split("[tool.hatch.version]")[0]


def test_doctor_reports_this_machine() -> None:
    report = json.loads(json.dumps(doctor.doctor()))
    assert report["healthy"]
    assert report["jaxdecay"] == jaxdecay.__version__
    assert report["packages"]["jax"]["version"] == importlib.import_module("jax").__version__
    assert report["cores"] >= 1
    assert report["disk_free_gib"] > 0
    assert report["jax"]["devices"][0].startswith("cpu")


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "installed", lambda name: None if name in {"polars", "matplotlib"} else "99.0"
    )
    report = doctor.doctor()
    assert not report["healthy"]
    assert "polars is missing: pip install polars" in report["advice"]
    text = doctor.lines(report)
    assert all("\n" not in line for line in text)
    assert any(
        "matplotlib (optional, pictures): not installed; pip install 'jaxdecay[plots]'" in line
        for line in text
    )
    assert any(line.startswith("advice: jax 99.0 is outside the tested range") for line in text)


def test_doctor_tells_of_a_device_that_is_not_there() -> None:
    code = "import os; os.environ['JAX_PLATFORMS'] = 'no_such'\nfrom jaxdecay.doctor import *\nr = doctor()\n"
    output = run_python(code + "print(r['healthy'], 'error' in r['jax']); print(*lines(r), sep='\\n')")
    assert output.startswith("False True\n")
    assert "advice: JAX finds no device" in output


def test_tested_ranges_hold_the_constraints() -> None:
    """Every range of the doctor starts at the lowest pin and ends in the series of the highest."""
    pins: dict[str, list[str]] = {}
    for line in (PACKAGE.parent / "constraints.txt").read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==([^ ;]+)", line):
            pins.setdefault(match[1], []).append(match[2])
    for name, (low, high) in doctor.TESTED.items():
        if name != "python":
            assert len(pins[name]) in {1, 2}
            assert all(doctor.within(pin, low, high) for pin in pins[name]), name
            assert any(pin.startswith(low) for pin in pins[name]), name
            assert any(pin.startswith(high) for pin in pins[name]), name
