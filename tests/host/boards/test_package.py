"""The files of a board: compiled for its chip, complete, and no more than its policy needs."""

import ast
import shutil
import threading
from dataclasses import replace

import pytest
from warden_build import archive, compiled
from warden_host.boards import package
from warden_host.boards.package import Parts
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree

ALL = Parts(updates=True, gate=True, plain=True)
NONE = Parts(updates=False, gate=False, plain=False)


def built(board="UNIX", architecture="x64", parts=ALL, source=None):
    return package.build(board_file.load(board), architecture, parts, source, True)


def modules(made) -> dict[str, bytes]:
    return archive.unpack(made.files["/lib/warden.mpy"])


def names(made) -> set[str]:
    return {path.rsplit("/", 1)[1].split(".")[0] for path in made.files} | set(modules(made))


def test_the_tables_name_files_of_the_build():
    """A module that changes its name must change it there."""
    every = {path.rsplit("/", 1)[1][:-3] for path in compiled.build_repository().sources}
    for table in (package.UPDATES, package.GATE, package.PLAIN, package.PIN, package.CURVE):
        assert table <= every


def test_what_the_policy_does_not_need_is_left_out():
    everything, little = names(built()), names(built(parts=NONE))
    assert package.UPDATES | package.GATE | package.PLAIN | package.CURVE <= everything
    assert not little & (
        package.UPDATES | package.GATE | package.PLAIN | package.PIN | package.CURVE
    )
    assert {"start", "provisioning", "recovery", "erase", "rotation"} <= little
    # A device's own key is made by all three.
    own = {"certificate", "interpreted"} | package.CURVE
    assert own <= names(built(parts=replace(NONE, certificate=True)))


def test_what_board_py_does_not_name_is_left_out():
    pico = built("RPI_PICO_W", "armv6m")
    assert not names(pico) & (package.UPDATES | package.PIN)  # no SLOTS, no PIN
    assert not [name for name in names(pico) if "atecc" in name or "nvs" in name]
    assert package.PIN <= names(built("UNIX_PIN"))


def test_slots_go_with_updates():
    assert b"SLOTS" in built().files["/lib/board.py"]
    assert b"SLOTS = " not in built(parts=NONE).files["/lib/board.py"]


def test_the_files_that_make_it_live_come_last():
    made = built()
    assert list(made.files)[-2:] == ["/boot.py~", "/main.py~"]
    assert made.folders == ["/lib", "/lib/umqtt"]


@pytest.mark.parametrize("architecture", ["armv6m", "armv7emsp", "xtensawin", "rv32imc"])
def test_each_chip_gets_its_own(architecture):
    code = modules(built("RPI_PICO_W", architecture))["_xor_native"]
    assert code[:2] == b"M\x06"
    assert code != modules(built("RPI_PICO_W", "x64"))["_xor_native"]


def test_an_unknown_chip_is_refused():
    with pytest.raises(HostError, match="does not compile for pdp11"):
        built(architecture="pdp11")


def test_python_is_parsed_by_one_thread_at_a_time(monkeypatch):
    """Several boards are provisioned at once: CPython's parser does not stand two threads."""
    real, refused, tries = ast.parse, [], []

    def another_thread() -> None:
        refused.append(not board_file.PARSER.acquire(blocking=False))

    def parse(text, *arguments):
        other = threading.Thread(target=another_thread)
        other.start()
        other.join()
        tries.append(text)
        return real(text, *arguments)

    monkeypatch.setattr(ast, "parse", parse)
    built(parts=NONE)
    assert tries and refused == [True] * len(tries)


def test_an_application(tmp_path):
    (tmp_path / "app.py").write_text("print(1)\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "data.bin").write_bytes(b"\0\1")
    made = built(parts=NONE, source=tmp_path)
    assert made.files["/app/more/data.bin"] == b"\0\1"
    assert "/app/more" in made.folders
    assert built(parts=NONE, source=tmp_path / "app.py").files["/app/app.py"] == b"print(1)\n"
    with pytest.raises(HostError, match="no application"):
        built(source=tmp_path / "more")


def test_the_wheel_builds_the_same_files(tmp_path, monkeypatch):
    """Without the checkout around it: only what the wheel carries."""
    here = names(built())
    tree = device_tree.tree()
    for part in ("lib", "firmware", "boards"):
        shutil.copytree(tree.root / part, tmp_path / part)
    umqtt = device_tree.umqtt()
    monkeypatch.setattr(device_tree, "tree", lambda: device_tree.Tree(tmp_path))
    monkeypatch.setattr(device_tree, "umqtt", lambda: umqtt)
    made = built()
    assert names(made) == here
    assert b"warden" in made.files["/boot.py~"]
