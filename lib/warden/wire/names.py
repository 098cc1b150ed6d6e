"""IDs and topics (docs/protocol.md, Names)."""

from micropython import const

from ..errors import PeerError, UsageError

JSON = "json"
COSE = "cose"

_WORD = const(b"abcdefghijklmnopqrstuvwxyz0123456789_")
_ID = const(b"abcdefghijklmnopqrstuvwxyz0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_MAX = const(32)
_KEPT = const(4)


def is_id(text: object) -> bool:
    """Return whether this is a device type, device ID or application ID: [A-Za-z0-9_-]{1,32}."""
    return _made_of(_ID, text)


def are_words(value: object, most: int) -> bool:
    """Return whether this is a list of at most so many names of events or commands."""
    return isinstance(value, list) and len(value) <= most and all([is_word(one) for one in value])


def is_word(text: object) -> bool:
    """Return whether this is an event's or a command's name: [a-z0-9_]{1,32}."""
    return _made_of(_WORD, text)


def _made_of(allowed: bytes, text: object) -> bool:
    if not isinstance(text, str) or not 0 < len(text) <= _MAX:
        return False
    # What is made of these bytes alone is stripped to nothing; any other byte stops strip().
    # Iterating over the text would intern each of its characters, for ever, and peers choose the
    # texts.
    return not text.encode().strip(allowed)


class Topics:
    """The topics of one device."""

    def __init__(self, type: str, device: str) -> None:
        for name in (type, device):
            if not is_id(name):
                raise UsageError(
                    "bad-name", "a device's type and ID are 1 to 32 of A-Z a-z 0-9 _ -"
                )
        self.type = type
        self.device = device
        self._base = "iot-2/type/%s/id/%s/" % (type, device)
        self._commands = (self._base + "cmd/").encode()
        self.subscription = self._base + "cmd/+/fmt/+"
        self._sealed: "dict[str, tuple[bytes, bytes]]" = {}
        # The last topic that parse() took, and what it returned.
        self._parsed: "tuple[bytes | None, tuple[str, str]]" = None, ("", "")

    def event(self, event: str, fmt: str) -> str:
        return "%sevt/%s/fmt/%s" % (self._base, event, fmt)

    def command(self, command: str, fmt: str) -> str:
        return "%scmd/%s/fmt/%s" % (self._base, command, fmt)

    def sealed(self, event: str) -> "tuple[bytes, bytes]":
        """Return (topic, external AAD) of a sealed event.

        The last few are kept: a device sends the same events all its life.
        """
        found = self._sealed.get(event)
        if found is None:
            from .envelope import external  # other users of names do without it

            topic = self.event(event, COSE).encode()
            found = topic, external("msg", topic)
            if len(self._sealed) >= _KEPT:
                self._sealed.clear()
            self._sealed[event] = found
        return found

    def sending(self, event: str, fmt: str) -> bytes:
        """Return an event's topic as bytes."""
        return self.sealed(event)[0] if fmt == COSE else self.event(event, fmt).encode()

    def is_event(self, event: object) -> bool:
        """Return is_word() of an event's name, without a check for one that is kept."""
        return (isinstance(event, str) and event in self._sealed) or is_word(event)

    def parse(self, topic: "memoryview | bytes") -> "tuple[str, str]":
        """Return (command, format) of a topic of this device. PeerError bad-topic for another."""
        last, found = self._parsed
        if topic == last:
            return found
        text = bytes(topic)
        start = len(self._commands)
        end = text.find(b"/", start)
        if text.startswith(self._commands) and 0 < end - start <= _MAX:
            fmt = JSON if text[end:] == b"/fmt/json" else COSE
            if fmt == JSON or text[end:] == b"/fmt/cose":
                word = text[start:end]
                # As in _made_of(): what is stripped to nothing is ASCII.
                if not word.strip(_WORD):
                    found = str(word, "utf-8"), fmt
                    self._parsed = text, found
                    return found
        raise PeerError("bad-topic")
