"""Put what set-up has fetched into the wheel: umqtt.simple, so that a wheel alone provisions, and
uPlot, with which the console draws.

hatchling loads this file by its place in pyproject.toml.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "warden_host/_device/umqtt"
UPLOT_INSIDE = "warden_host/web/_assets/uplot"
UPLOT = ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE")


class FetchedHook(BuildHookInterface[Any]):
    """Add fetched files to a wheel; an editable installation finds them in build/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._add_umqtt(build_data["force_include"])
        self._add_uplot(build_data["force_include"])

    def _add_umqtt(self, included: dict[str, str]) -> None:
        fetched = Path(self.root) / "build" / "umqtt" / "umqtt" / "simple.py"
        if not fetched.is_file():
            self.app.display_warning(
                "the wheel has no umqtt.simple: run `make setup` first, or set WARDEN_UMQTT later"
            )
            return
        notice = Path(self.root) / "tools" / "setup" / "umqtt_notice.txt"
        included[str(fetched)] = f"{INSIDE}/simple.py"
        included[str(notice)] = f"{INSIDE}/NOTICE.txt"

    def _add_uplot(self, included: dict[str, str]) -> None:
        folder = Path(self.root) / "build" / "web" / "node_modules" / "uplot"
        if not all((folder / name).is_file() for name in UPLOT):
            self.app.display_warning(
                "the wheel has no uPlot: its console shows tables of values instead of plots"
            )
            return
        for name in UPLOT:
            included[str(folder / name)] = f"{UPLOT_INSIDE}/{Path(name).name}"
