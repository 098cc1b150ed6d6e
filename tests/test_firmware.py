"""firmware/boot.py: which modules Warden gets when an application has files of the same names."""

import ast
import re
import subprocess
from pathlib import Path

import layers
from process_kit import PATIENCE_S

# Neither the firmware's nor Warden's: from /lib, or for one display each.
LIBRARIES = {"board", "micropython", "sys", "types", "umqtt", "ssd1306", "machine_i2c_lcd"}
APP = """
import hashlib, os, time
from warden.crypto import kdf
from warden.vault import Vault
print("digest", kdf.hmac_sha256(b"", b"")[:4].hex(), hashlib.sha256(b"").digest()[:4].hex())
"""


def start(repo: Path, micropython: str, root: Path) -> str:
    """Boot a simulated board on a folder, and return what it prints."""
    (root / "fuses").mkdir()
    for name in ("boot.py", "main.py"):
        (root / name).write_text((repo / "firmware" / name).read_text())
    (root / "lib").mkdir()
    (root / "lib" / "warden").symlink_to(repo / "lib" / "warden")
    program = [micropython, str(repo / "boards/UNIX/_boot.py"), str(root), str(root / "fuses")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.stdout + done.stderr


def test_a_file_of_the_application_shadows_no_module_of_the_firmware(
    repo: Path, micropython: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.py").write_text(APP)
    for name in ("hashlib", "os", "time", "cryptolib", "json", "struct"):
        (app / f"{name}.py").write_text("print('shadowed')\nraise SystemExit\n")
    printed = start(repo, micropython, tmp_path)
    assert "shadowed" not in printed, printed
    assert "digest b613679a e3b0c442" in printed, printed


def test_every_module_that_the_package_imports_is_bound(repo: Path) -> None:
    boot = (repo / "firmware/boot.py").read_text()
    found = re.findall(r'^_NAMES \+?= "(.*)"$', boot, re.MULTILINE)
    wanted = set()
    for path in (repo / "lib").rglob("*.py"):
        for node in layers.at_run_time(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                wanted.add((node.module or "").split(".")[0])
    assert wanted - LIBRARIES - {"warden"} <= set(" ".join(found).split())


def test_collections_are_set_before_the_first_file_is_imported(repo: Path) -> None:
    boot = (repo / "firmware/boot.py").read_text()
    assert boot.count("gc.threshold(") == 1
    assert boot.index("gc.threshold(32768)") < boot.index("import board")
