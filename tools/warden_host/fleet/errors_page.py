"""Read docs/errors.md, which the wheel carries: what each code means, and what to do."""

import difflib
import re
from dataclasses import dataclass

from warden_host.errors import HostError
from warden_host.fleet import device_tree

_ROW = re.compile(r"\| `(?P<code>[a-z0-9-]+)` \| (?P<means>[^|]+) \| (?P<do>[^|]+) \|$")
_STEP = re.compile(r"\| `(?P<code>[a-z0-9-]+)` \| (?P<means>[^|]+) \|$")  # of progress
_HOST = "Host: "  # of a section of codes that only the host raises
_LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
_MOST_NEAR = 3


@dataclass(frozen=True)
class Entry:
    """One code of the page. side: "device" for what a device raises too, else "host"."""

    code: str
    class_name: str
    side: str
    means: str
    do: str


def entries() -> dict[str, Entry]:
    """Return code → its entry, in the order of the page. Raises tree-missing."""
    found: dict[str, Entry] = {}
    section = ""
    for line in _text().splitlines():
        if line.startswith(("## ", "### " + _HOST)):
            section = line.lstrip("# ")
        row = _ROW.match(line)
        if row is not None:
            side = "host" if section.startswith(_HOST) else "device"
            name = section.removeprefix(_HOST).replace("no other class", "HostError")
            code = row["code"]
            found[code] = Entry(code, name, side, _plain(row["means"]), _plain(row["do"]))
    return found


def progress() -> dict[str, str]:
    """Return code → meaning of what a device's log says of its own steps. Raises tree-missing."""
    rows = (_STEP.match(line) for line in _text().splitlines())
    return {row["code"]: _plain(row["means"]) for row in rows if row is not None}


def entry(code: str) -> Entry:
    """Return a code's entry. Raises bad-argument, which names similar codes."""
    steps = {
        code: Entry(code, "Progress", "device", means, "Nothing: it is no error.")
        for code, means in progress().items()
    }
    known = steps | entries()
    found = known.get(code.strip().lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(code.lower(), known, _MOST_NEAR)
    similar = f"similar: {', '.join(near)}; " if near else ""
    raise HostError(
        "bad-argument",
        f"there is no code {code[:40]!r}",
        f"{similar}`warden explain` lists all; an application's own codes are in its documentation",
    )


def _text() -> str:
    path = device_tree.tree().root / "docs" / "errors.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise HostError(
            "tree-missing", "docs/errors.md is not there", "install warden again, from its wheel"
        ) from None


def _plain(text: str) -> str:
    """Return Markdown without its links: a page of the repository is named by its path."""

    def link(found: re.Match[str]) -> str:
        words, target = found[1], found[2].partition("#")[0]
        page = f"docs/{target}" if target and "/" not in target else target
        return page if words in (target, "") else f"{words} ({page})" if page else words

    return _LINK.sub(link, text).strip()
