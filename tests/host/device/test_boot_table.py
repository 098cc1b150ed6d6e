"""docs/update.md says which slot boots in each state; the device is held to it.

And images of mpremote's own builder are mounted.
"""

import random
import subprocess
from pathlib import Path

from mpremote.romfs import VfsRomWriter
from process_kit import PATIENCE_S


def run(repo: Path, micropython: str, code: str) -> list[str]:
    start = "import sys; sys.path[:] = ['tests/unit/kit', 'tests/unit/ota', 'lib', '.frozen']\n"
    done = subprocess.run(
        [micropython, "-X", "heapsize=8m", "-c", start + code],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.splitlines()


def documented(repo: Path) -> dict[tuple[str, str], str]:
    page = (repo / "docs" / "update.md").read_text()
    text = page.split("### Which slot boots")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    letters = rows[0][1:]
    return {
        (row[0], letter): cell
        for row in rows[1:]
        for letter, cell in zip(letters, row[1:], strict=True)
    }


def test_the_table(repo: Path, micropython: str) -> None:
    wanted = documented(repo)
    lines = [
        line.split()
        for line in run(repo, micropython, "import update_kit; update_kit.print_table()")
    ]
    found = {(first, second): outcome for first, second, outcome in lines}
    assert len(found) == 81
    assert found == wanted


def test_mpremotes_images(repo: Path, micropython: str, tmp_path: Path) -> None:
    """Every file of an image that mpremote built, read through the checking file system and
    through the firmware's own."""
    rng = random.Random(5)
    writer = VfsRomWriter()
    files = {}

    def add(path: str, data: bytes) -> None:
        writer.mkfile(path.rsplit("/", 1)[-1], data)
        files[path] = data

    add("/a.bin", rng.randbytes(9000))
    writer.opendir("lib")
    add("/lib/b.txt", b"")
    writer.opendir("deep")
    add("/lib/deep/c.bin", rng.randbytes(130))
    writer.closedir()
    writer.closedir()
    add("/z.bin", rng.randbytes(4096 * 3))
    image = writer.finalise()
    (tmp_path / "image").write_bytes(image)
    code = f"""
import hashlib, vfs
from test_romfs import opened
data = open({str(tmp_path / "image")!r}, "rb").read()
for filesystem in (opened(data)[0], vfs.VfsRom(data)):
    for path in {sorted(files)!r}:
        with filesystem.open(path, "rb") as file:
            print(path, hashlib.sha256(file.read()).digest().hex())
"""
    import hashlib

    wanted = [f"{path} {hashlib.sha256(files[path]).hexdigest()}" for path in sorted(files)]
    assert run(repo, micropython, code) == wanted * 2
