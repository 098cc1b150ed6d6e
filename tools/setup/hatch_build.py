"""Put umqtt.simple into the wheel, where set-up has fetched it, so that a wheel alone provisions.

hatchling loads this file by its place in pyproject.toml.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "warden_host/_device/umqtt"


class UmqttHook(BuildHookInterface[Any]):
    """Add the fetched file to a wheel; an editable installation finds it in build/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        fetched = Path(self.root) / "build" / "umqtt" / "umqtt" / "simple.py"
        if version == "editable":
            return
        if not fetched.is_file():
            self.app.display_warning(
                "the wheel has no umqtt.simple: run `make setup` first, or set WARDEN_UMQTT later"
            )
            return
        notice = Path(self.root) / "tools" / "setup" / "umqtt_notice.txt"
        build_data["force_include"][str(fetched)] = f"{INSIDE}/simple.py"
        build_data["force_include"][str(notice)] = f"{INSIDE}/NOTICE.txt"
