"""Puts questions to the device's code twice: under this CPython, and on the unix port in one
process. Importing it sets sys.path so that `warden` is the device package."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
sys.path[:0] = [str(REPO / "lib"), str(REPO / "tests" / "unit" / "kit")]

import answers  # noqa: E402  (the path must be set first)


def line(operation: str, *parts: bytes) -> str:
    """A question, as answers.py reads it."""
    return " ".join([operation, *(bytes(part).hex() or "-" for part in parts)])


def here(questions: Iterable[str]) -> list[str]:
    """The answers under CPython."""
    return [answers.answer(question) for question in questions]


def port(
    micropython: str, questions: Iterable[str], options: tuple[str, ...] = (), heap: str = "8m"
) -> list[str]:
    """The answers of the unix port, in order."""
    questions = list(questions)
    done = subprocess.run(
        [micropython, *options, "-X", "heapsize=" + heap, str(HERE / "answers.py")],
        input="\n".join(questions) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    got = done.stdout.splitlines()
    if done.returncode or len(got) != len(questions):
        at = questions[len(got)][:2000] if len(got) < len(questions) else "?"
        raise AssertionError(
            f"the port ended at: {at}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return got
