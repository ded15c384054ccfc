"""Interest that fades, learned end to end.

`import jaxdecay` costs nothing: a name is imported when it is first used, so that `import jaxdecay.kernels`
needs JAX and no data library, and `import jaxdecay.data` needs no JAX.

    import jaxdecay as jd
    run = jd.fit(events, out="runs/first")
    run.recommend(users=["u1"], k=10, at="2026-11-22T18:00:00Z")
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdecay.errors import InputError
    from jaxdecay.recommend import fit, load

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "fit", "load"]

_HOME = {"InputError": "errors", "fit": "recommend", "load": "recommend"}


def _modules() -> set[str]:
    return {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _modules():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_modules()})
