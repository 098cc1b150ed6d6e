"""What the fuzzer found worth keeping, again: on CPython with every check, and on the unix port
with the same answers."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "cpython"), str(TESTS / "fuzz")]

import both  # noqa: E402  (the path must be set first)
import corpus  # noqa: E402
import targets  # noqa: E402


@pytest.mark.parametrize("name", corpus.NAMES)
def test_corpus(micropython: str, name: str) -> None:
    inputs = corpus.load(name)
    assert len(inputs) > 20
    for data in inputs:
        targets.CHECKS[name](data)
    if name == "cose":
        kinds = [(bytes((kind,)), bytes((strict,))) for kind in (1, 2, 3) for strict in (0, 1)]
        questions = [both.line(name, *kind, data) for kind in kinds for data in inputs]
    else:
        questions = [both.line(name, data) for data in inputs]
    answers = both.port(micropython, questions)
    assert answers == both.here(questions)
    # Both kinds are there: what is taken and what is refused.
    refused = sum(answer.startswith("error") for answer in answers)
    assert 0 < refused < len(answers)
