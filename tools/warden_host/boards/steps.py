"""One board's way from bare MicroPython to a device of the fleet, in steps.

Every step can be cut and repeated. The board is not live before the last one: until then a start
ends at the REPL, where the next call goes on. Files that are there already are not written again,
and a vault that holds the fleet's present secrets is kept.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from warden_host import jsontext
from warden_host.boards import checks, install, package, programs, self_test, vault
from warden_host.boards import replace as replace_package
from warden_host.boards.connection import Board, BoardError
from warden_host.boards.records import BoardRecord, replaces_package
from warden_host.devices import bundle, exchange, log_in, provision
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.release import signing_key
from warden_host.store.store import Device, Store

_QUIET_S = 15.0  # beyond a program's own limit
_ERASE_S = 120.0
_CLOCK_S = 30
_KEY_S = 60.0
_LIVE = {"boot.py", "main.py", "lib"}  # what a board that starts Warden has at its root


class Progress(Protocol):
    """Shows the steps to a person or a script."""

    def begin(self, step: str, text: str) -> None:
        """Show that a step begins."""

    def at(self, done: int, total: int) -> None:
        """Show how far the step is."""

    def end(self, text: str) -> None:
        """Show what the step did."""


@dataclass(frozen=True)
class Plan:
    """What to make of a board.

    order: the device. erase: whether a vault of another device, or of unknown secrets, may be
    destroyed. offline: don't connect.
    """

    order: provision.Order
    erase: bool = False
    offline: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a board. session: whether the authority saw its live start."""

    device: Device
    facts: checks.Facts
    kept: bool
    connected: bool
    session: bool


@dataclass
class Provisioning:
    """Provision a board.

    announce(device): tells a running authority of the new device, after it is recorded.
    allow(question): asks a person whether what the board holds may be destroyed.
    complete(order): returns the order with the secrets that a person is asked for, once the board
    was found fit.
    patience: factor on time-outs. connect_s: seconds for each connection.
    Raises HostError; the board is then as it was, or the same call goes on where it ended.
    """

    fleet: Fleet
    store: Store
    board: Board
    plan: Plan
    progress: Progress
    announce: Callable[[str], None]
    allow: Callable[[str], bool]
    complete: Callable[[provision.Order], provision.Order] = lambda order: order
    patience: float = 1.0
    connect_s: int = 60

    def run(self) -> Outcome:
        """Take every step. Raises as the steps do."""
        facts = self._check()
        record = BoardRecord.load(self.fleet, self.plan.order.device)
        self._check_identity(facts, record)
        order = self.complete(self.plan.order)
        self.plan = replace(self.plan, order=order)
        device = self._live_device(facts, record)
        if device is not None:
            if record is not None and order.own_board is None and order.board == record.board:
                self.plan = replace(self.plan, order=replace(order, own_board=record.own_board()))
            return self._replace_package(facts, device)
        provision.check_board(order)  # a package alone needs no networks
        if _LIVE <= set(facts.files):  # it starts no more once the package is being written
            with suppress(BoardError):  # no Warden, or half of one: the next look tells
                self._look_at_vault(facts, record)
        self._install(facts)
        self._set_clock()
        self._test()
        device, kept = self._hand_over(facts, record)
        connected = False
        if not self.plan.offline:
            self._connect(device)
            connected = True
        boot = self._proven_boot(device)
        self._make_live()
        self._remember(facts, live=True)
        session = connected and self._wait_live(device, boot)
        return Outcome(device, facts, kept, connected, session)

    # Steps

    def _check(self) -> checks.Facts:
        with self._step("check", "ask the board what it is") as say:
            facts = checks.ask(self.board)
            checks.check(facts, self.plan.order.board)
            version = ".".join(map(str, facts.version))
            say(
                f"{facts.machine}, MicroPython {version}, {facts.heap // 1024} KB of heap, "
                f"{facts.free} of {facts.blocks} blocks free"
            )
        return facts

    def _check_identity(self, facts: checks.Facts, record: BoardRecord | None) -> None:
        """Raise device-exists where another board has this ID, before anything is changed."""
        order = self.plan.order
        known = self.store.find(order.device)
        if known is None or order.again:
            return
        if record is None or not record.is_chip(facts.unique_id):
            raise HostError(
                "device-exists", f"device {order.device} was provisioned already: another board"
            )

    def _live_device(self, facts: checks.Facts, record: BoardRecord | None) -> Device | None:
        """Return the device that this board is, where its package alone is to be replaced.

        In development mode a live board answers. None where the order asks for more than that.
        """
        order = self.plan.order
        known = self.store.find(order.device)
        if known is None or record is None or not record.is_chip(facts.unique_id):
            return None
        if not replaces_package(record, order):
            return None
        if not _LIVE <= set(facts.files):
            return None
        return known if vault.ask(self.board, order.pin).proves(known) else None

    def _replace_package(self, facts: checks.Facts, device: Device) -> Outcome:
        """Give a live board a new package at once; it keeps its secrets and its application."""
        boot = self._proven_boot(device)
        with self._step("install", f"build Warden for {facts.architecture}") as say:
            replace_package.replace(self.board, facts, self._build(facts), self.progress.at)
            say("the new package is beside the old one; the next start takes it")
        with self._step("live", "let it start") as say:
            self.board.reset(reopen=False)
            say("the board starts anew")
        session = not self.plan.offline and self._wait_live(device, boot)
        return Outcome(device, facts, True, session, session)

    def _install(self, facts: checks.Facts) -> None:
        with self._step("install", f"build Warden for {facts.architecture}") as say:
            made = self._build(facts)
            written = install.install(self.board, facts, made, self.progress.at)
            blocks = sum(-(-len(data) // facts.block) for data in made.files.values())
            say(f"{len(made.files)} files, {blocks} blocks; {written} were written")
        self.board.restart()

    def _build(self, facts: checks.Facts) -> package.Package:
        order = self.plan.order
        source = order.app_source
        if source is None and not self.board.digests(["/app/app.py"]):
            source = package.example()
        release = signing_key.record(self.fleet, self.store.vendor(), order.type)
        gate, plain = order.otp is not None, order.plain
        known = self.store.find(order.device)
        if known is not None:  # its vault may be kept, with the policy that is there
            gate = gate or policy.parse(known.policy).get("otp") is not None
            plain = plain or known.mode == "plain"
        own_key = log_in.uses_certificate(self.fleet, order.type, order.device, known)
        parts = package.Parts(release is not None, gate, plain, own_key)
        return package.build(
            order.board_file,
            facts.architecture,
            parts,
            source,
            "umqtt.simple" not in facts.modules,
        )

    def _set_clock(self) -> None:
        with self._step("clock", "set the board's clock") as say:
            now = time.gmtime()
            moment = (*now[:3], now.tm_wday, *now[3:6], 0)
            shown = self.board.ask(programs.fill(programs.SET_CLOCK, MOMENT=moment)).get("now")
            try:
                there = datetime(*shown, tzinfo=UTC)  # type: ignore[misc]  # the board's word
            except (TypeError, ValueError, OverflowError):
                raise HostError("board-failed", "the board's clock gives no time") from None
            text = there.strftime("%Y-%m-%d %H:%M:%S UTC")
            if abs(there.timestamp() - time.time()) > _CLOCK_S * self.patience:
                raise HostError("board-failed", f"the board's clock stays at {text}")
            say(text)

    def _test(self) -> None:
        with self._step("self-test", "let the chip compute") as say:
            say(", ".join(self_test.run(self.board)))

    def _hand_over(self, facts: checks.Facts, record: BoardRecord | None) -> tuple[Device, bool]:
        """Provision the vault, unless it holds the fleet's present secrets."""
        order = self.plan.order
        with self._step("secrets", "look at the board's vault") as say:
            kept, others = self._look_at_vault(facts, record)
            if kept is not None:
                say("the vault holds this device's present secrets: they are kept")
                self.announce(order.device)
                return kept, True
            if others:
                self.board.ask(programs.ERASE, answer_s=_ERASE_S)
                self.board.restart()
            self._remember(facts, live=False)
            # Given again to an ID of this very board that no vault proves any more.
            again = order.again or self.store.find(order.device) is not None
            order = replace(order, again=again)
            device = provision.provision_board(
                self.fleet, self.store, order, self._send, self._make_key
            )
            self.announce(order.device)
            say(f"sealed in the board's vault; obeys {', '.join(p.appid for p in device.pairs)}")
        return device, False

    def _remember(self, facts: checks.Facts, live: bool) -> None:
        order = self.plan.order
        text = "" if order.own_board is None else order.own_board.text
        BoardRecord(order.device, facts.unique_id, order.board, live, text).save(self.fleet)

    def _look_at_vault(
        self, facts: checks.Facts, record: BoardRecord | None
    ) -> tuple[Device | None, bool]:
        """Return the device whose present secrets are on the board, or None; whether others are.

        Raises board-provisioned where those may not be erased.
        """
        order = self.plan.order
        state = vault.ask(self.board, order.pin)
        if state.kind == "none":
            return None, False
        known = self.store.find(order.device)
        # Networks of this call may mend a password that was mistyped in the last one.
        same = known is not None and state.proves(known) and not order.networks
        if same and not order.again:
            return known, False
        whose = f"it is {state.owner}" if state.owner else f"its vault is closed ({state.kind})"
        begun = record is not None and not record.live and record.is_chip(facts.unique_id)
        # A call that was cut leaves a vault that no fleet knows.
        if not (begun or state.kind == "wiped" or self.plan.erase) and not self.allow(
            f"This board was provisioned already: {whose}. Destroy what its vault holds?"
        ):
            raise HostError("board-provisioned", f"the board was provisioned already: {whose}")
        self.plan = replace(self.plan, erase=True)  # asked once
        return None, True

    def _make_key(self) -> bytes:
        """Let the board make the key of its certificate; return the public one."""
        return exchange.read_key(self.board.ask(programs.MAKE_KEY, answer_s=_KEY_S))

    def _send(self, data: bytes, pin: bytes) -> None:
        """Send the bundle into the board's memory, and let it seal it there."""
        frames = bundle.framed(data) + (bundle.framed(pin) if pin else b"")
        self.board.run("from binascii import a2b_base64\nframes = bytearray()")
        for done in self.board.send("frames", frames):
            self.progress.at(done, len(frames))
        answer = self.board.ask(programs.INSTALL, answer_s=_ERASE_S)
        if answer.get("ok") is not True:
            reason = jsontext.printable(f"{answer.get('error')}: {answer.get('text')}"[:200])
            raise HostError("provision-failed", f"the board refused its bundle: {reason}")
        self.board.restart()  # what the bundle left on the heap is no more in use

    def _connect(self, device: Device) -> None:
        """Let the board connect once, before it is live: a mistake can be mended until then."""
        with self._step("connect", "join the network and talk to the authority") as say:
            before = self._proven_boot(device)
            self.board.run(programs.fill(programs.STARTED, BOOT=next(iter(package.STAGED))))
            seconds = self.connect_s
            wanted = AUTHORITY if device.mode == "sealed" else ""
            answer = self.board.ask(
                programs.fill(
                    programs.CONNECT, PIN=self.plan.order.pin, SECONDS=seconds, APP=wanted
                ),
                answer_s=seconds + _QUIET_S,
                secret=bool(self.plan.order.pin),
            )
            self.board.restart()
            session = answer.get("session")
            if not session:
                raise _not_connected(answer.get("log"))
            if device.mode == "sealed" and self._proven_boot(device) <= before:
                raise HostError(
                    "no-session",
                    "the board has a session that this fleet's authority does not know of",
                    "look whether another fleet's broker has the address in warden.toml",
                )
            say("the authority has a session with it")

    def _make_live(self) -> None:
        with self._step("live", "let its next start be Warden's") as say:
            renames = list(package.STAGED.items())
            self.board.ask(programs.fill(programs.MAKE_LIVE, RENAMES=renames))
            self.board.reset(reopen=False)
            say("boot.py and main.py are in place; the board starts anew")

    def _wait_live(self, device: Device, boot: int) -> bool:
        """Wait for the session of the live board; return whether it came.

        Not in plain mode, which proves nothing to the authority, nor of a board that asks for a
        PIN at its start.
        """
        if device.mode != "sealed" or self.plan.order.pin:
            return False
        with self._step("session", "wait for the live board's session") as say:
            limit = time.monotonic() + self.connect_s * self.patience
            while time.monotonic() < limit:
                if self._proven_boot(device) > boot:
                    say("it is online")
                    return True
                time.sleep(0.2)
            say("none yet: `warden devices` shows when it comes; its console says why it does not")
        return False

    def _proven_boot(self, device: Device) -> int:
        """Return the number of the last start that proved itself to the authority."""
        known = self.store.find(device.device)
        return 0 if known is None else known.mark.boot

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[Callable[[str], None]]:
        """Show a step; the block calls what it is given with the step's result."""
        result = [""]
        self.progress.begin(name, text)
        yield lambda said: result.__setitem__(0, said)
        self.progress.end(result[0])


def _not_connected(log: object) -> HostError:
    """Return the error for a connection that did not come, by the board's own log."""
    entries = [entry for entry in log if isinstance(entry, list)] if isinstance(log, list) else []
    causes = [entry for entry in entries if entry[:1] != ["link-wait"]]
    shown = jsontext.printable(": ".join(map(str, causes[-1]))[:200]) if causes else "nothing"
    return HostError(
        "no-session",
        f"the board made no session; it says: {shown}",
        "docs/errors.md explains its code; mend the cause and give the same command again: it "
        "goes on from here",
    )
