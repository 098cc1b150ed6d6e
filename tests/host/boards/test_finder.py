"""How `warden provision --batch` finds each board that is plugged in, once."""

from port_model import Listed
from serial.tools import list_ports
from warden_host.boards import batch, ports


class Found:
    """The boards that are found, each one done before the next is looked for."""

    def __init__(self, wanted, wait_s, wait=lambda: None):
        self.finder, self.port = batch.Finder(wanted, wait_s, wait), ""

    def __iter__(self):
        return self

    def __next__(self):
        self.finder.done(self.port)
        self.port = self.finder.next()
        if self.port is None:
            raise StopIteration
        return self.port


def test_another_board_with_the_same_number(monkeypatch):
    """Serial chips of one maker all say 0001; the port was away for a while between them."""
    clock = [0.0]
    monkeypatch.setattr(batch.time, "monotonic", lambda: clock[0])
    present = [Listed("/dev/a", "0001")]
    away = {"from": 99.0, "to": 99.0}

    def pass_time(seconds):
        clock[0] += seconds
        gone = away["from"] <= clock[0] < away["to"]
        present[:] = [] if gone else [Listed("/dev/a", "0001")]

    monkeypatch.setattr(batch.time, "sleep", pass_time)
    monkeypatch.setattr(list_ports, "comports", lambda: list(present))
    found = Found(ports.AUTO, 20.0)
    assert next(found) == "/dev/a"
    clock[0] = 98.0  # that one took its time; it resets itself then
    away.update({"from": 99.0, "to": 102.0})
    assert list(found) == []
    found = Found(ports.AUTO, 20.0)
    assert next(found) == "/dev/a"
    away.update({"from": clock[0] + 1, "to": clock[0] + 8})
    assert next(found) == "/dev/a"


def test_boards_are_found_once(monkeypatch):
    """By their numbers: a board whose port comes back after its reset is the same one."""
    present = [Listed("/dev/a", "1")]
    monkeypatch.setattr(list_ports, "comports", lambda: list(present))
    waits = []

    def next_board():
        waits.append(1)
        if len(waits) == 1:
            present[:] = []  # unplugged …
        present.append(Listed("/dev/a", "2"))

    found = Found(ports.AUTO, 5.0, next_board)
    assert next(found) == "/dev/a"
    assert next(found) == "/dev/a"
    assert waits == [1]
    present[:] = [Listed("/dev/b", "1"), Listed("/dev/c", ""), Listed("/dev/ttyS", "9")]
    wanted = Found("/dev/c", 0.0, next_board)
    assert list(wanted) == ["/dev/c"]


def test_a_port_that_is_named(tmp_path, monkeypatch):
    """By a link, such as one of /dev/serial/by-id; or a UART's, which no list of USB ports has."""
    usb, uart, link = tmp_path / "ttyACM0", tmp_path / "ttyS0", tmp_path / "by-id"
    usb.touch()
    link.symlink_to(usb)
    other = Listed("/dev/other", "2")
    monkeypatch.setattr(list_ports, "comports", lambda: [Listed(str(usb), "1"), other])
    assert list(Found(str(link), 0.0)) == [str(usb)]
    assert list(Found(str(uart), 0.0)) == []
    uart.touch()
    assert list(Found(str(uart), 0.0)) == [str(uart)]
