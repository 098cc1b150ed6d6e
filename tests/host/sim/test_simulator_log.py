"""The simulator's log: which lines tell of a refusal, and what a code means, said once."""

import pytest
from warden_host.fleet import errors_page
from warden_host.sim.web import log
from warden_host.sim.web.log import Log


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("-- on --", "note"),
        ("incident tampered set_relay", "refused"),
        ("incident a-code-of-the-application x", "refused"),
        ("incident unreachable link, 3 times", "network"),
        ("warden: dns-failed broker", "network"),
        ("tampered x", "refused"),
        ("log session-stands ", ""),
        ("gate-open otp", ""),  # a step, and no refusal to unlock
        ("incident gate-open unlock", "refused"),
        ("hello", ""),
    ],
)
def test_marks(text: str, mark: str) -> None:
    made = Log()
    made.add(text)
    assert made.lines[0].mark == mark


def test_a_code_is_explained_once_for_the_lines_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "MOST", 4)
    made = Log()
    for text in ("session-stands", "hello", "session-stands", "-- on --", "session-stands"):
        made.add(text)
    assert [bool(line.means) for line in made.lines] == [True, False, False, False, True][-4:]
    made.add("incident tampered set_relay")
    assert made.lines[-1].means == errors_page.entries()["tampered"].means
    made.add("session-stands", mark="note")
    assert not made.lines[-1].means


def test_a_code_that_is_an_error_and_a_step_means_what_its_line_says() -> None:
    made = Log()
    for text in ("incident gate-open unlock", "gate-open otp", "incident gate-open unlock"):
        made.add(text)
    error, step = errors_page.entries()["gate-open"].means, errors_page.progress()["gate-open"]
    assert [line.means for line in made.lines] == [
        error.replace("`", ""),
        step.replace("`", ""),
        "",
    ]
