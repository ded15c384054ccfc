"""``jaxdecay doctor``."""

from dataclasses import dataclass
from typing import Any

from jaxdecay.commands import Command
from jaxdecay.doctor import doctor, lines


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Says what this machine offers: versions, devices, cores, memory, disk, optional parts, and what to
    do."""

    def perform(self) -> dict[str, Any]:
        return doctor()

    def show(self, result: dict[str, Any]) -> None:
        print(*lines(result), sep="\n")

    def fault(self, result: dict[str, Any]) -> str | None:
        return None if result["healthy"] else result["advice"][0]
