"""Other versions of mosquitto, out of Debian's packages: unpacked under build/, never installed.

They run by the C library that they were built for, through its own loader. Where apt, the mirror
or a package is not to be had, Missing says so in one sentence.
"""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "brokers"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COMMON = ("mosquitto", "libc6", "libcjson1", "libssl3t64", "libsystemd0", "libwrap0", "libzstd1")
# Suite → the packages that its mosquitto loads.
PACKAGES = {
    "trixie": (*_COMMON, "libcap2", "libdlt2", "libmosquitto1", "libwebsockets19t64", "zlib1g"),
    "forky": (
        *_COMMON,
        *("libdlt3", "libffi8", "libgmp10", "libgnutls30t64", "libhogweed6t64", "libidn2-0"),
        *("libmicrohttpd12t64", "libmosquitto1", "libnettle8t64", "libp11-kit0"),
        *("libpicohttpparser1", "libsqlite3-0", "libtasn1-6", "libunistring5", "zlib1g"),
    ),
}
_PATIENCE_S = 300


class Missing(Exception):
    """This version can't be had here; the text says why."""


@dataclass(frozen=True)
class Mosquitto:
    folder: Path  # with the program mosquitto in it
    plugin: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes warden_host find it."""
        path = f"{self.folder}{os.pathsep}{os.environ.get('PATH', '')}"
        return {"PATH": path, "WARDEN_DYNSEC": str(self.plugin)}


def named(suite_or_program: str) -> Mosquitto:
    """The mosquitto of a Debian suite, or a program whose plugin WARDEN_DYNSEC names."""
    if suite_or_program in PACKAGES:
        return fetch(suite_or_program)
    program = Path(suite_or_program).resolve()
    return Mosquitto(program.parent, Path(os.environ["WARDEN_DYNSEC"]).resolve())


def fetch(suite: str) -> Mosquitto:
    """The mosquitto of this Debian suite. Raises Missing."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as lock:  # the indices of both suites are fetched once
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = BUILD / suite
        if not (root / "mosquitto").is_file():
            _unpack(suite, root)
    return Mosquitto(root, _one(root, "mosquitto_dynamic_security.so"))


def _unpack(suite: str, root: Path) -> None:
    for program in ("apt-get", "dpkg", "ldconfig"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin") is None:
            raise Missing(f"there is no {program}, with which Debian's mosquitto is fetched")
    options = _index()
    shutil.rmtree(root, ignore_errors=True)
    packages = root / "packages"
    packages.mkdir(parents=True)
    names = [f"{name}/{suite}" for name in PACKAGES[suite]]
    _run(["apt-get", *options, "-qq", "download", *names], packages)
    for package in packages.iterdir():
        _run(["dpkg", "-x", package.name, str(root)], packages)
    libraries = _one(root, "libssl.so.3").parent
    _run(["/sbin/ldconfig", "-n", str(libraries)], root)
    loader = next(root.rglob("ld-linux*.so.*"))
    program = root / "mosquitto.new"
    program.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {libraries} {root}/usr/sbin/mosquitto "$@"\n'
    )
    program.chmod(0o755)
    _run([str(program), "-h"], root, status=None)
    shutil.rmtree(packages)
    program.rename(root / "mosquitto")


def _index() -> list[str]:
    """Options of apt for a state of our own that knows these suites alone, from this machine's
    mirror."""
    state = BUILD / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    sources = state / "sources.list"
    options = [
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"),
        *("-o", f"Dir::State={state}", "-o", f"Dir::State::status={state / 'status'}"),
        *("-o", f"Dir::Cache={state / 'cache'}", "-o", "Acquire::Languages=none"),
        *("-o", "Acquire::Retries=2", "-o", f"APT::Sandbox::User={_user()}"),
    ]
    if not sources.is_file():
        mirror = _mirror()
        lines = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in PACKAGES]
        sources.write_text("".join(lines))
        try:
            _run(["apt-get", *options, "-qq", "--error-on=any", "update"], state)
        except Missing:
            sources.unlink()
            raise
    return options


def _mirror() -> str:
    known = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]
    for line in _run([*known, "Created-By: Packages"], BUILD).splitlines():
        if line.startswith("Debian Debian "):
            return line.split()[2]
    raise Missing("this machine's apt knows no mirror of Debian")


def _user() -> str:
    return "root" if os.geteuid() == 0 else ""


def _one(root: Path, name: str) -> Path:
    found = next((path for path in root.rglob(name) if path.exists()), None)
    if found is None:
        raise Missing(f"Debian's package holds no {name}")
    return found


def _run(command: list[str], folder: Path, status: int | None = 0) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]} gives nothing ({type(error).__name__})") from None
    if status is not None and done.returncode != status:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise Missing(f"Debian's mosquitto is not to be had: {said[:200]}")
    return done.stdout
