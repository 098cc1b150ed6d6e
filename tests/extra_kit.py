"""Skip, with a sentence, what needs packages of `warden[web]` or of its tests that are missing."""

import re
from collections.abc import Generator

import pytest

PACKAGES = ("argon2", "jinja2", "playwright", "starlette", "uvicorn", "webauthn", "websockets")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that can't be imported without one of them."""
    report = yield
    found = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if found is not None and found[1] in PACKAGES:
        _skip(report, report.nodeid, found[1])
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that one of them ended, also where the console says itself what is missing."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    name = ""
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
    elif getattr(error, "code", "") == "web-missing":
        name = str(error).rpartition(" ")[2]
    if report.failed and name in PACKAGES:
        _skip(report, str(item.path), name)
    return report


def _skip(report: pytest.CollectReport | pytest.TestReport, where: str, package: str) -> None:
    report.outcome = "skipped"
    report.longrepr = where, 0, f"Skipped: no {package}: `warden[web]` is not installed whole"
