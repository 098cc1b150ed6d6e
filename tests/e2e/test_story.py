"""The owner's story with two devices; `make story` tells it with fifty, from a wheel."""

import sys
from pathlib import Path

import story


def test_an_owner_of_two_doors(tmp_path: Path, umqtt_path: Path) -> None:
    told: list[str] = []
    story.tell_all(story.Story(tmp_path, 2, sys.executable, told.append))
    assert told[-1].endswith("no device is lost")
