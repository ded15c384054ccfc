"""How large the page on a run is, and how long it takes."""

import tempfile
import time
from pathlib import Path
from typing import Any

from jaxdecay.errors import InputError
from jaxdecay.findings import Findings
from jaxdecay.page import write_page
from jaxdecay.trained import Run


def page(run: Run) -> dict[str, Any]:
    """Seconds from opening the run to the page on disk, and its MB; what is missing where it cannot be
    written."""
    with tempfile.TemporaryDirectory() as folder:
        out, begin = Path(folder) / "report.html", time.perf_counter()
        try:
            write_page(Findings(run.path), out)
        except InputError as error:
            return {"left_out": str(error)}
        return {"seconds": time.perf_counter() - begin, "megabytes": out.stat().st_size / 1e6}
