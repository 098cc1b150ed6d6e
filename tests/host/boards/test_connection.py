"""The REPL of a board, and everything that can go wrong on its line."""

import os
import pty
import threading
import tty

import pytest
from mpremote.transport import TransportError
from port_model import BoardModel
from process_kit import PATIENCE_S
from serial.tools import list_ports
from warden_host.boards import connection, ports
from warden_host.boards.connection import CHUNK, Board
from warden_host.errors import HostError


@pytest.fixture
def model(tmp_path, micropython):
    with BoardModel(tmp_path / "board", micropython) as made:
        yield made


class Listed:
    """A port as pyserial lists it."""

    def __init__(self, device, vid):
        self.device, self.vid = device, vid
        self.product, self.description, self.serial_number = "Board in FS mode", "", device[-1:]


def listed(monkeypatch, *devices):
    found = [Listed(*device) for device in devices]
    monkeypatch.setattr(list_ports, "comports", lambda: found)


def fails(code):
    return pytest.raises(HostError, match=code)


def test_a_port_is_chosen(monkeypatch):
    listed(monkeypatch, ("/dev/ttyS0", None), ("/dev/ttyACM0", 0x2E8A))
    assert ports.choose("auto") == "/dev/ttyACM0"
    assert ports.choose("/dev/ttyUSB7") == "/dev/ttyUSB7"


def test_no_board_and_two_boards(monkeypatch):
    listed(monkeypatch, ("/dev/ttyS0", None))
    with fails("port-unknown: no board is plugged in"):
        ports.choose("auto")
    listed(monkeypatch, ("/dev/ttyACM1", 1), ("/dev/ttyACM0", 1))
    with fails("2 boards are plugged in: /dev/ttyACM0 Board in FS mode 0, /dev/ttyACM1"):
        ports.choose("auto")


def test_a_port_that_is_not_there(tmp_path):
    with fails("port-unknown"):
        Board(str(tmp_path / "nothing")).__enter__()


def test_a_port_where_nothing_answers():
    near, far = pty.openpty()
    tty.setraw(far)
    try:
        with fails("board-silent"):
            Board(os.ttyname(far), patience=0.02).__enter__()
    finally:
        os.close(near)
        os.close(far)


def test_a_port_that_talks_without_end():
    """Such as a GPS receiver, or a board that wants this program's memory."""
    near, far = pty.openpty()
    tty.setraw(far)
    os.set_blocking(near, False)
    over = threading.Event()

    def talk():
        while not over.is_set():
            try:
                os.write(near, b"$GPRMC,120000.00,A\r\n" * 40)
            except BlockingIOError:
                over.wait(0.001)

    talking = threading.Thread(target=talk, daemon=True)
    talking.start()
    try:
        with fails("board-silent"):
            Board(os.ttyname(far)).__enter__()
    finally:
        over.set()
        talking.join(PATIENCE_S)  # else it would write into whatever file has the number next
        os.close(far)
        os.close(near)


@pytest.mark.parametrize(
    "program",
    [
        "while True:\n    print('x' * 1000)",
        "raise ValueError('x' * 70000)",
        "while True:\n    print(end='\\x04')",
    ],
)
def test_an_answer_without_end(model, program):
    """A board with firmware of an enemy may say what it likes."""
    with Board(model.port) as board, fails("board-lost|board-failed"):
        board.run(program)
        board.run("print(1)")


class Endless:
    """A serial port that always has as many bytes as are asked for."""

    def read(self, size):
        return bytes(size)


def test_a_conversation_has_so_many_bytes(monkeypatch):
    monkeypatch.setattr(connection, "_MAX_SAID", 10)
    line = connection._Line(Endless())
    assert [len(line.read(size)) for size in (4, 20)] == [4, 6]
    with pytest.raises(TransportError):
        line.read()
    line.begin(60.0)
    assert line.read() == b"\0"


def test_a_conversation_has_so_much_time():
    line = connection._Line(Endless())
    line.begin(-1.0)
    with pytest.raises(TransportError):
        line.read()


def test_a_board_that_reads_nothing(model, monkeypatch):
    monkeypatch.setattr(connection, "_ANSWER_S", 0.5)
    ended = threading.Event()
    with Board(model.port) as board:
        board._wire().use_raw_paste = False  # which has a flow control of its own
        model.on_input = lambda data, _: b"" if ended.wait(20) else b""
        with fails("board-lost"):
            board.run("x = '%s'" % ("x" * 100_000))
    ended.set()


def test_the_port_is_closed_where_the_board_went(model):
    board = Board(model.port).__enter__()
    port = board._transport.serial
    model.unplug()
    with fails("board-lost"):
        board.run("print(1)")
    assert not port.is_open


def test_a_traceback_does_not_quote_a_secret(model):
    """A garbled line becomes a name that the interpreter does not know."""
    with Board(model.port) as board:
        for program, shown in (
            ("c2VjcmV0", "NameError"),
            ("raise ValueError('c2VjcmV0')", "ValueError"),
            ("raise ValueError('\\nc2VjcmV0')", "an exception"),
        ):
            with pytest.raises(HostError) as caught:
                board.run(program, secret=True)
            assert "c2VjcmV0" not in str(caught.value) and shown in str(caught.value)
        with pytest.raises(HostError) as caught:
            list(board.send("none", b"secret"))
        assert str(caught.value.text).endswith(": NameError")


def test_programs_run_and_fail(model):
    with Board(model.port) as board:
        assert board.run("print(1 + 1)") == "2\r\n"
        assert board.ask("print('noise')\nprint('{\"a\": 1}')") == {"a": 1}
        with fails("board-failed: a step failed on the board: ZeroDivisionError"):
            board.run("1/0")
        with fails("board-failed"):
            board.ask("print('no JSON')")
        with fails("board-failed"):
            board.ask("pass")
        assert board.run("print(3)") == "3\r\n"


def test_a_board_that_hangs_is_lost(model):
    with Board(model.port) as board:
        with fails("board-lost"):
            board.run("while True:\n    pass", answer_s=0.3)
        with fails("board-lost"):
            board.run("print(1)")


def test_files_are_written_and_verified(model):
    data = bytes(range(256)) * 20
    with Board(model.port) as board:
        seen = list(board.write("/file", data))
        assert seen == [*range(CHUNK, len(data), CHUNK), len(data)]
        assert set(board.digests(["/file", "/none"])) == {"/file"}
        assert list(board.write("/empty", b"")) == []
        assert board.run("import os\nprint(os.stat('/empty')[6])") == "0\r\n"


def test_a_full_filesystem(model):
    with Board(model.port) as board:
        board.run(
            "f = open('/photo', 'wb')\nfor _ in range(200): n = f.write(bytes(4096))\nf.close()"
        )
        with fails("board-full"):
            list(board.write("/file", bytes(64 * 1024)))
        board.run("import os\nos.remove('/photo')")
        list(board.write("/file", bytes(64 * 1024)))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("OSError: [Errno 28] ENOSPC", "board-full"),
        ("OSError: 28", "board-full"),
        ("OSError: [Errno 5] EIO", "board-failed"),
        ("MemoryError: memory allocation failed, allocating 2816 bytes", "board-failed"),
    ],
)
def test_why_a_file_could_not_be_written(name, code, monkeypatch):
    def run(*_, **__):
        raise connection._failed(f"Traceback (most recent call last):\n{name}\n", False)

    monkeypatch.setattr(Board, "run", run)
    with fails(code):
        list(Board("none").write("/file", b"text"))


def test_a_flash_that_loses_a_file(model, monkeypatch):
    with Board(model.port) as board:
        monkeypatch.setattr(board, "digests", lambda paths: dict.fromkeys(paths, "00"))
        with fails("board-failed: the board's flash did not keep /file"):
            list(board.write("/file", b"text"))


def test_a_reset_and_a_new_start(model):
    with Board(model.port) as board:
        board.run("x = 1")
        board.restart()
        with fails("NameError"):
            board.run("x")
        board.reset(reopen=True)
        assert board.run("print(2)") == "2\r\n"
        assert model.resets == 1


def test_raw_mode_without_paste(model):
    """The line of an old firmware: text goes out in pieces with pauses."""
    with Board(model.port) as board:
        board._wire().use_raw_paste = False
        assert board.run("print(%r)" % ("x" * 3000)).strip() == "x" * 3000
