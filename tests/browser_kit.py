"""A real browser for tests of pages: Debian's Chromium under Playwright, and axe from npm."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process_kit import PATIENCE_S

ROOT = Path(__file__).parents[1]
AXE = ROOT / "build" / "web" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium")
_SERIOUS = ("serious", "critical")
_AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Yield a browser; skip the test where there is none. Its contexts share nothing.

    arguments: of its command line, beside those that it needs here.
    """
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *arguments]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Any, **options: Any) -> Iterator[Any]:
    """Yield a page of its own context. Fails where it raised an error or broke its policy."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None,
    )
    try:
        yield page
        assert not wrong, wrong
    finally:
        context.close()


def check_accessible(page: Any) -> None:
    """Fail where axe finds a serious fault on the page. Needs a context with bypass_csp=True."""
    if not AXE.is_file():
        pytest.skip("no axe-core: npm is missing")
    page.add_script_tag(path=str(AXE))
    found = [
        f"{one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in page.evaluate(_AXE)
        if one["impact"] in _SERIOUS
    ]
    assert not found, found
