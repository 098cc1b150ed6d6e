"""`provision --again`: the device that is there stays whole until the new one is."""

import pytest
from cli_kit import fails, fake
from warden_host import cli, registry
from warden_host.errors import HostError
from warden_host.store import Store

GOOD = "print('{\"ok\": true}')"


@pytest.fixture
def home(folder):
    assert cli.run(["provision", "D1", "--sim"]) == 0
    (folder / "sim" / "D1" / "root" / "vault").write_text("all that it knows")
    return folder / "sim" / "D1"


def keys(folder):
    with Store(folder / "fleet.db") as store:
        return store.device("D1").pairs


def untouched(home) -> bool:
    return (home / "root" / "vault").read_text() == "all that it knows"


@pytest.mark.parametrize(
    "answer", ["sys.exit(1)", 'print(\'{"ok": false, "error": "bad-bundle"}\')']
)
def test_a_refused_bundle_leaves_the_old_device(
    folder, home, tmp_path, monkeypatch, capsys, answer
):
    before = keys(folder)
    fake(tmp_path, monkeypatch, answer)
    fails(capsys, "provision-failed", "provision", "D1", "--sim", "--again")
    assert untouched(home)
    assert keys(folder) == before
    fake(tmp_path, monkeypatch, GOOD)
    assert cli.run(["provision", "D1", "--sim", "--again"]) == 0
    assert not (home / "root" / "vault").exists()
    assert keys(folder) != before
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]


def test_a_refused_account_leaves_the_old_device(folder, home, monkeypatch, capsys):
    before = keys(folder)

    def refuse(*_: object) -> None:
        raise HostError("broker-refused", "createClient: no")

    with monkeypatch.context() as patched:
        patched.setattr(registry._Stopped, "put", refuse)
        fails(capsys, "broker-refused", "provision", "D1", "--sim", "--again")
        fails(capsys, "broker-refused", "provision", "D2", "--sim")
    assert untouched(home)
    assert keys(folder) == before
    assert not (home.parent / "D2").exists()


def test_a_swap_that_was_cut_off_is_taken_back(folder, home):
    home.rename(home.with_name(".D1.old"))
    assert cli.run(["provision", "D1", "--sim", "--again"]) == 0
    assert (home / "root" / "main.py").is_file()
    assert [path.name for path in home.parent.iterdir() if path.is_dir()] == ["D1"]
