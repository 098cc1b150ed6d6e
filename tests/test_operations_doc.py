"""What docs/operations.md shows is taken by the programs that it is for."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Debian's place for it is in no user's PATH.
PATH = "/usr/sbin:/sbin:/usr/bin"


def test_nftables_takes_the_firewall(repo: Path, tmp_path: Path) -> None:
    page = (repo / "docs/operations.md").read_text()
    (rules,) = re.findall(r"^```nft\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "policy drop" in rules
    nft = shutil.which("nft") or shutil.which("nft", path=PATH)
    if nft is None:
        pytest.skip("nft is not installed")
    path = tmp_path / "firewall.nft"
    path.write_text(rules)
    check = [nft, "--check", "--file", str(path)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft asks the kernel, which this user may not")
    assert (done.returncode, done.stderr) == (0, "")
