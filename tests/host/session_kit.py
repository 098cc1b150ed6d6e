"""A device and its application around one session, for the tests of both."""

from host_kit import PeerDevice
from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof
from warden_client.protocol.results import Refused, Send, SessionUp
from warden_client.protocol.session import Instant, Session
from warden_host.names import Address

K = bytes(range(32))
POLICY = bytes(32)
ADDRESS = Address("relay", "D1", "authority")


class Pair:
    """A device and its application, with what the application kept on disk."""

    def __init__(self, proven: Proof = NOTHING_PROVEN, mark: DeviceMark | None = None) -> None:
        self.device = PeerDevice(K, POLICY)
        self.kept: list = []
        self.mark = mark or DeviceMark()
        self.app = Session(ADDRESS, K, POLICY, self.mark, self.kept.append, proven)
        self.now = Instant(1_700_000_000, 1000.0)

    def restart_app(self) -> None:
        """What the disk kept is all that is left."""
        proofs = [fact for fact in self.kept if isinstance(fact, Proof)]
        mark = DeviceMark(self.mark.boot, self.mark.connect, self.mark.vault_gen)
        self.mark = mark
        proven = proofs[-1] if proofs else NOTHING_PROVEN
        self.app = Session(ADDRESS, K, POLICY, mark, self.kept.append, proven)

    def receive(self, event: str, data: bytes) -> list:
        return self.app.receive(event, data, self.now)

    def code(self, event: str, data: bytes) -> str:
        """The one refusal that this message meets."""
        outcomes = self.receive(event, data)
        assert len(outcomes) == 1, outcomes
        assert isinstance(outcomes[0], Refused), outcomes
        return outcomes[0].code

    def welcome(self, **changes) -> bytes:
        [send] = self.receive("hello", self.device.hello(**changes))
        assert isinstance(send, Send)
        assert send.command == "welcome"
        return send.data

    def handshake(self) -> bytes:
        """A whole handshake; the ack's bytes."""
        self.device.take_welcome(self.welcome())
        ack, stood = self.receive("ready", self.device.ready())
        assert isinstance(ack, Send)
        assert isinstance(stood, SessionUp)
        assert self.device.open("ack", ack.data) == (0, [0, None, {}])
        return ack.data

    def seal(self, ttl: int | None = 30) -> bytes:
        return self.app.seal("set_relay", 7, {"on": 1}, ttl, self.now)
