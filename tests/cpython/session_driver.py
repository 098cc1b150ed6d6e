"""One device's sessions behind a line protocol, alike under CPython and on the unix port: what
hypothesis did to the one is done to the other again, and both must answer the same: `micropython
tests/cpython/session_driver.py < trace`.

A line is an operation and its arguments, an answer the words of what came of it: s:EVENT:HEX was
sent, r:CODE:COMMAND refused, j:HEX a command obeyed (its body), t:TIME from the authority,
e:CODE raised to the caller, a:KEY:NONCE an AEAD sealing (hashes). Chance is drawn from a seed, or
is one constant for ever (a weak chip), so that answers repeat.
"""

import hashlib
import sys

if __name__ == "__main__":
    HERE = __file__.rsplit("/", 1)[0]
    sys.path[:] = [HERE + "/../../lib", ".frozen"]

import warden.net.backoff  # noqa: E402  (the path must be set first)
import warden.session.session  # noqa: E402
from warden.errors import WardenError  # noqa: E402
from warden.session.command import Commands  # noqa: E402
from warden.session.inbox import Inbox  # noqa: E402
from warden.session.session import HelloCounter, Session  # noqa: E402
from warden.wire import cbor  # noqa: E402
from warden.wire.names import COSE, Topics  # noqa: E402

_PlainCCM = warden.session.session.CCM
# What every sealing used, for the caller of the operation.
_sealings = []


def short(data):
    return hashlib.sha256(data).digest()[:12].hex()


class RecordingCCM(_PlainCCM):
    """Notes each key and nonce that seal, before anything else can go wrong."""

    def __init__(self, key):
        super().__init__(key)
        self._name = short(bytes(key))

    def seal(self, nonce, buf, n, aad):
        _sealings.append((self._name, bytes(nonce).hex()))
        super().seal(nonce, buf, n, aad)


warden.session.session.CCM = RecordingCCM


class Driver:
    def __init__(self):
        self.words = []
        self.sessions = []
        self.jobs = []
        self.draws = 0

    def do(self, line):
        """The answer to one line. Anything but a WardenError of the caller's own doing goes
        through."""
        warden.session.session.random_bytes = warden.net.backoff.random_bytes = self.random
        del _sealings[:]
        self.words = []
        parts = line.split()
        getattr(self, "do_" + parts[0])(*parts[1:])
        self.words += ["a:%s:%s" % pair for pair in _sealings]
        return " ".join(self.words) or "-"

    def random(self, n):
        if self.weak:
            return b"\x55" * n
        self.draws += 1
        text = b"%s %d" % (self.seed, self.draws)
        return hashlib.sha256(text).digest()[:n]

    def add(self, code, at, now_ms, *_):
        self.words.append("r:%s:%s" % (code, at))

    def wake(self, now_ms):
        pass

    def acknowledge(self, number, now_ms):
        if number is not None:
            self.words.append("k:%s" % number)

    def sent(self, event, data):
        self.words.append("s:%s:%s" % (event, bytes(data).hex()))

    def do_boot(self, type, device, boot, generation, policy, nonce_key, seed, weak, *apps):
        """A start of the device: nothing of its memory is left. An app is APPID:KEY:1 for the
        authority, else :0."""
        self.weak = weak == "1"
        self.seed = seed.encode()
        self.draws = 0
        self.generation = int(generation)
        names = self.names = Topics(type, device)
        counter = HelloCounter(int(boot), bytes.fromhex(nonce_key), self)
        self.sessions = []
        self.jobs = []
        commands = Commands()
        commands.register("set", lambda args: None)
        for app in apps:
            appid, key, authority = app.split(":")
            commands.grant(appid, ("set",))
            session = Session(
                names, appid, bytes.fromhex(key), counter, bytes.fromhex(policy), authority == "1"
            )
            self.sessions.append(session)
        self.inbox = Inbox(names, commands, self, self.sessions, None, self.note_time)

    def note_time(self, unix_time):
        self.words.append("t:%d" % unix_time)

    def do_gen(self, generation):
        self.generation = int(generation)

    def do_begin(self, now):
        for session in self.sessions:
            session.start(int(now))

    def do_tick(self, now):
        for session in self.sessions:
            said = session.tick(int(now))
            if said is not None:
                self.sent(*said)

    def do_take(self, command, data, now, work):
        """A message on a topic of this device; work 0 leaves the answer for later."""
        topic = self.names.command(command, COSE).encode()
        payload = memoryview(bytearray(bytes.fromhex("" if data == "-" else data)))
        job = self.inbox.receive(topic, payload, False, int(now))
        if job is not None:
            job.run(print)
            self.words.append("j:" + cbor.encode(job.args).hex())
            self.jobs.append(job)
            if work == "1":
                self.do_work()
        self.flush()

    def flush(self):
        for event, _, data in self.inbox.out:
            self.sent(event, data)
        del self.inbox.out[:]

    def do_work(self):
        """The oldest command that waits gets its answer."""
        if self.jobs:
            self.jobs.pop(0).answer({"ok": True, "result": None})
        self.flush()

    def do_seal(self, appid, event, body):
        for session in self.sessions:
            if session.appid == appid:
                try:
                    self.sent(event, session.seal(event, 0, cbor.decode(bytes.fromhex(body))))
                except WardenError as error:
                    self.words.append("e:" + error.code)

    def do_state(self):
        """All that a message may have changed, one word an application: APPID:STANDS:SID:DUE and a
        hash of the rest."""
        for session in self.sessions:
            keys = session._keys
            rest = (
                session._phase,
                session._out_ms,
                session._repeats,
                session._hello_ms,
                session._wake_ms,
                keys and (keys.next_up, keys.last_down, keys.last_tag, keys.reply),
                session.diverged,
            )
            due = session.due_ms()
            self.words.append(
                "%s:%d:%s:%s:%s"
                % (
                    session.appid,
                    session.up,
                    session.sid.hex(),
                    "" if due is None else due,
                    short(bytes(session._out) + repr(rest).encode()),
                )
            )


if __name__ == "__main__":
    driver = Driver()
    for line in sys.stdin:
        if line.strip():
            print(driver.do(line))
