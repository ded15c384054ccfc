"""What this machine offers: versions, devices, cores, memory, disk, optional parts, and what to do."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jaxdecay import __version__

# Lowest and highest release series that the tests ran with; constraints.txt has the exact versions.
TESTED = {
    "python": ("3.11", "3.13"),
    "jax": ("0.10", "0.12"),
    "jaxlib": ("0.10", "0.12"),
    "flax": ("0.12", "0.12"),
    "optax": ("0.2", "0.2"),
    "orbax-checkpoint": ("0.12", "0.12"),
    "numpy": ("2.4", "2.5"),
    "polars": ("2.1", "2.1"),
    "grain": ("0.2", "0.2"),
    "tyro": ("1.0", "1.0"),
    "rich": ("15.0", "15.0"),
    "jaxtyping": ("0.3", "0.3"),
}
EXTRAS = {
    "matplotlib": ("pictures", "pip install 'jaxdecay[plots]'"),
    "safetensors": ("language models", "pip install 'jaxdecay[text]'"),
    "tokenizers": ("language models", "pip install 'jaxdecay[text]'"),
    "usearch": ("lists out of very large catalogues", "pip install 'jaxdecay[search]'"),
    "pandas": ("pandas frames as input", "pip install pandas pyarrow"),
}
GIB = 2**30


def within(found: str, low: str, high: str) -> bool:
    """Whether `found` lies in the series from `low` to `high`, each compared on as many numbers as it has.

    >>> within("0.12.0.1", "0.10", "0.12"), within("0.13.0", "0.10", "0.12"), within("0.9.2", "0.10", "0.12")
    (True, False, False)
    """

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text.split("+")[0])]

    def leading(series: list[int]) -> list[int]:
        return numbers(found)[: len(series)]

    return numbers(low) <= leading(numbers(low)) and leading(numbers(high)) <= numbers(high)


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def doctor() -> dict[str, Any]:
    """Everything worth knowing before a run, ready for JSON.

    Returns a dictionary with `jaxdecay`, `python`, `packages` (name to `version`, `tested` range and `state`:
    "tested", "untested" or "missing"), `jax` (`devices` and `backend`, or `error`), `cores`, `memory_gib`,
    `memory_available_gib`, `disk_free_gib` (of the working folder), `extras` (name to `version`, `gives`,
    `install`), `advice` (what to do, one line each) and `healthy`: nothing that a run needs is missing.
    Versions outside the tested range are no illness.
    """
    packages = {name: _package(name) for name in TESTED}
    extras = {
        name: {"version": installed(name), "gives": gives, "install": install}
        for name, (gives, install) in EXTRAS.items()
    }
    total, available = _memory()
    report: dict[str, Any] = {
        "jaxdecay": __version__,
        "python": sys.executable,
        "packages": packages,
        "jax": _jax(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": total,
        "memory_available_gib": available,
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "extras": extras,
    }
    report["advice"] = list(_advice(report))
    missing = any(package["state"] == "missing" for package in packages.values())
    report["healthy"] = not missing and "error" not in report["jax"]
    return report


def lines(report: dict[str, Any]) -> list[str]:
    """The report of `doctor()` for people: one line each."""
    out = [f"jaxdecay {report['jaxdecay']} with {report['python']}"]
    for name, package in report["packages"].items():
        low, high = package["tested"]
        tested = low if low == high else f"{low} to {high}"
        out.append(f"{name} {package['version'] or '-'}: {package['state']} (tested: {tested})")
    jax = report["jax"]
    out.append(f"devices: {jax['error'] if 'error' in jax else ', '.join(jax['devices'])}")
    memory = "unknown" if report["memory_gib"] is None else f"{report['memory_gib']} GiB"
    if report["memory_available_gib"] is not None:
        memory += f", {report['memory_available_gib']} GiB of it available"
    out.append(f"cores: {report['cores']}")
    out.append(f"memory: {memory}")
    out.append(f"disk: {report['disk_free_gib']} GiB free here")
    for name, extra in report["extras"].items():
        state = extra["version"] or f"not installed; {extra['install']}"
        out.append(f"{name} (optional, {extra['gives']}): {state}")
    return out + [f"advice: {line}" for line in report["advice"]]


def _package(name: str) -> dict[str, Any]:
    low, high = TESTED[name]
    found = platform.python_version() if name == "python" else installed(name)
    state = "missing" if found is None else "tested" if within(found, low, high) else "untested"
    return {"version": found, "tested": [low, high], "state": state}


def _jax() -> dict[str, Any]:
    try:
        import jax

        devices = [f"{device.platform} {device.device_kind} {device.id}" for device in jax.devices()]
    except (ImportError, RuntimeError) as error:  # the latter: JAX_PLATFORMS names an absent device
        return {"error": " ".join(str(error).split())}
    return {"devices": devices, "backend": jax.default_backend()}


def _memory() -> tuple[float | None, float | None]:
    """Total and available memory in GiB as the kernel tells them; None where it does not."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None, None
    kib = dict(row.split(":") for row in meminfo.read_text().splitlines())
    total, available = (int(kib[name].split()[0]) * 1024 / GIB for name in ("MemTotal", "MemAvailable"))
    return round(total, 1), round(available, 1)


def _advice(report: dict[str, Any]) -> Iterator[str]:
    for name, package in report["packages"].items():
        if package["state"] == "missing":
            yield f"{name} is missing: pip install {name}"
        if package["state"] == "untested":
            outside = f"{name} {package['version']} is outside the tested range"
            yield f"{outside}: if something fails, install with -c constraints.txt"
    if "error" in report["jax"]:
        yield "JAX finds no device: unset JAX_PLATFORMS, or set JAX_PLATFORMS=cpu"
    elif report["jax"]["backend"] == "cpu" and shutil.which("nvidia-smi"):
        yield "a GPU seems to be here but JAX computes on the processor: pip install 'jax[cuda13]'"
    if report["disk_free_gib"] < 1:
        yield "less than 1 GiB of disk is free: checkpoints may not fit"
