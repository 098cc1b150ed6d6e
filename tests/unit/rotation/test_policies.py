"""Another policy by the authority's command, with power cuts at every operation."""

import asyncio

from agent_kit import provisioned
from gate_kit import TERMS
from harness import check, equal, link_failure, raises
from test_bundle import good
from trial_kit import OrderedRig, cut_everywhere, reopened
from warden.agent import link_failure as link_failure_module
from warden.errors import LinkError, PeerError
from warden.policy.policy import Policy
from warden.rotation.rotation import check_record
from warden.wire import cbor

SLOW = True

TRIES = 3
OLD = cbor.decode(good()["policy"])


def record(**changes):
    fields = dict(OLD)
    fields.update(changes)
    return cbor.encode(fields)


def fourth(**changes):
    """The same policy in version 4."""
    fields = {"v": 4, "strict": False, "otp": None, "development": False}
    fields.update({"auth": "password", "tls": True, "outbox": 0})
    fields.update({"outbox_keep": "connection", "outbox_drop": "oldest"})
    fields.update(changes)
    return record(**fields)


NEW = record(stall_ms=30000, keepalive_s=600, max_message=4096, backoff_min_ms=500)


class Board(OrderedRig):
    """One start of a device whose tasks are run by hand.

    works: whether the authority is reached under the new policy, too. expected: the record that
    the authority expects; None: any.
    """

    command = "policy"

    def __init__(self, vault, works=True, expected=None):
        super().__init__(vault)
        self.works, self.expected = works, expected
        self.start_without_tasks()

    def connect(self, new=NEW):
        """Make one connection attempt as the agent does; return whether a session is up."""
        agent = self.agent
        session = agent.sessions[0]
        session.up = False
        agent.session_up.clear()
        if agent.rotation is not None:
            agent.rotation.choose_secrets()
        if not self.works and session.policy_digest == Policy(new).digest:
            agent.rotation.failed(link_failure("link-timeout"))
            return False
        session.up = True
        expected = session.policy_digest if self.expected is None else Policy(self.expected).digest
        session.diverged = expected != session.policy_digest
        agent._check_sessions()
        self.pass_ms(0, 59999, 60000)
        return True

    def pass_ms(self, *moments):
        """Let the agent's timer look at a pending change at these moments."""
        for now in moments:
            if self.agent.rotation is not None:
                self.agent.rotation.due_ms(now)

    def in_use(self):
        """Return the values with which the next connection is made."""
        agent, client = self.agent, self.agent.client
        return (
            agent.policy.stall_ms,
            client.keepalive.stall_ms,
            client.keepalive.keepalive_ms,
            len(client.framer._view),
            agent.backoff.least_ms,
            agent.inbox.limit,
            [session.policy_digest for session in agent.sessions],
        )


def old_values(board):
    return Board(provisioned()).in_use() == board.in_use()


def test_the_state():
    state = Board(provisioned()).run()
    equal((state["id"], state["proved"], state["pending"]), (0, 0, False))
    equal(state["digest"], Policy(good()["policy"]).digest)


def test_a_new_policy_that_works():
    vault = provisioned()
    board = Board(vault)
    limit = board.agent.inbox.limit
    board.connect()
    state = board.run(id=1, policy=NEW)
    equal((state["id"], state["proved"], state["pending"]), (1, 0, True))
    # The session under the old policy proves nothing, and the old one is in use.
    board.agent._check_sessions()
    board.pass_ms(0, 200000)
    equal(vault.get("policy"), good()["policy"])
    check(old_values(board))
    check(board.connect())
    equal(vault.get("policy"), NEW)
    digest = Policy(NEW).digest
    equal(
        board.in_use(),
        (30000, 30000, 600000, 4096, 500, limit + 4096 - 2048, [digest, digest]),
    )
    check(("policy-changed", "policy 1 is in use") in board.logged)
    state = board.run()
    equal((state["id"], state["proved"], state["pending"]), (1, 1, False))
    equal((state["digest"], board.agent.rotation), (digest, None))
    # It subscribes and says hello as before, and a start uses it too.
    check(board.agent.client.greet == board.agent.greet)
    equal(board.agent.client.password, good()["broker"][3])
    again = Board(reopened(vault))
    equal(again.agent.policy.digest, digest)


def test_a_new_policy_that_does_not_work():
    board = Board(provisioned(), works=False)
    board.connect()
    board.run(id=1, policy=NEW)
    for _ in range(TRIES):
        equal(board.connect(), False)
        equal(board.agent.policy.stall_ms, 30000)
    check(board.connect())
    check(old_values(board))
    equal(board.vault.get("policy"), good()["policy"])
    equal([(i["code"], i["at"]) for i in board.incidents()], [("policy-failed", "policy")])
    state = board.run()
    equal((state["id"], state["proved"], state["pending"]), (1, 0, False))


def test_tries_go_on_with_the_back_off_and_the_next_broker():
    vault = provisioned()
    vault.put("brokers", cbor.encode([1, [["down", 1, 0], ["up", 2, 0]]]))
    board = Board(vault, works=False)
    board.connect()
    board.run(id=1, policy=NEW)
    tried = []
    for _ in range(TRIES):
        board.connect()
        agent = board.agent
        tried.append(agent.server[0])
        link_failure_record(agent)
        agent.backoff.next_ms()
    equal(tried, ["down", "up", "down"])
    equal(agent.backoff.least_ms, 500)
    check(agent.backoff._kept_ms > 500)


def link_failure_record(agent):
    """Count a failed connection as the agent does."""
    agent.client.accepted = False
    link_failure_module.record(agent, (0, 0, 0), link_failure("unreachable"), 0)


def test_an_authority_that_expects_another_policy_proves_nothing():
    board = Board(provisioned(), expected=good()["policy"])
    board.run(id=1, policy=NEW)
    for _ in range(TRIES + 1):
        check(board.connect())
    equal(board.vault.get("policy"), good()["policy"])


def test_another_application_s_session_proves_nothing():
    board = Board(provisioned())
    board.run(id=1, policy=NEW)
    board.agent.rotation.choose_secrets()
    board.agent.sessions[1].up = True
    board.agent._check_sessions()
    board.pass_ms(0, 60000)
    equal(board.vault.get("policy"), good()["policy"])


def test_a_session_that_does_not_come_up_in_time():
    board = Board(provisioned())
    board.run(id=1, policy=NEW)
    pending = board.agent.rotation
    pending.choose_secrets()
    closed = []
    board.agent.client.close = lambda: closed.append(1)
    equal((pending.due_ms(1000), pending.due_ms(120999), len(closed)), (121000, 121000, 0))
    equal((pending.due_ms(121000), len(closed)), (None, 1))
    board.agent.sessions[0].up = True
    board.agent._check_sessions()
    board.pass_ms(121001, 200000)
    equal(board.vault.get("policy"), good()["policy"])


def test_a_session_that_does_not_last():
    """With too little patience the next ping ends it: it must last for two stall_ms."""
    board = Board(provisioned())
    board.run(id=1, policy=NEW)
    pending, session = board.agent.rotation, board.agent.sessions[0]
    for _ in range(TRIES):
        pending.choose_secrets()
        session.up, session.diverged = True, False
        equal((pending.due_ms(1000), pending.due_ms(60999)), (61000, 61000))
        session.up = False
        pending.failed(link_failure("link-timeout"))
        equal(pending.due_ms(61000), None)
        equal(board.vault.get("policy"), good()["policy"])
    board.connect()
    check(old_values(board))


def test_what_must_not_be_weakened_over_the_link():
    board = Board(provisioned())
    second = {"v": 2, "otp": None}
    for changed in (
        record(mode="plain"),
        record(validate=False),
        record(store=False),
        record(strict=True, **second),
        record(v=2, strict=False, otp=TERMS),
        record(v=3, strict=False, otp=None, development=True),
        fourth(development=True),
        fourth(tls=False),
        fourth(auth="token"),
    ):
        check(
            isinstance(
                raises("not-allowed", lambda c=changed: board.run(id=1, policy=c)), PeerError
            )
        )
        equal([(i["code"], i["at"]) for i in board.incidents()], [("not-allowed", "policy")])
    equal((board.vault.get("policy_new"), board.agent.rotation), (None, None))
    # From strict to not, either.
    bundle = good()
    bundle["policy"] = record(strict=True, **second)
    strict = Board(provisioned(bundle))
    raises("not-allowed", lambda: strict.run(id=1, policy=NEW))
    # The same terms in a newer version are no change of them.
    board.run(id=1, policy=fourth(stall_ms=6000))
    check(board.connect())
    equal(board.agent.policy.stall_ms, 6000)


def test_an_event_in_the_outbox_must_fit():
    bundle = good()
    bundle["policy"] = fourth(outbox=4)
    board = Board(provisioned(bundle))
    raises("not-allowed", lambda: board.run(id=1, policy=fourth(outbox=4, max_message=2047)))
    board.run(id=1, policy=fourth(outbox=4, max_message=4096))
    # Without an outbox a smaller limit is one like any other.
    Board(provisioned()).run(id=1, policy=record(max_message=512))


def test_the_terms_of_the_connection_are_fixed():
    from warden.rotation import policies

    old = Policy(fourth())
    fixed = policies._fixed(old)
    equal(policies._fixed(Policy(OLD_RECORD)), fixed)
    for changes in (
        {"auth": "token"},
        {"tls": False},
    ):
        terms = dict(old.connection)
        terms.update(changes)
        other = Policy(fourth())
        other.connection = terms
        check(policies._fixed(other) != fixed)


OLD_RECORD = good()["policy"]
HUBS = [["hub-1", 8883, 0], ["hub-2", 8884, 3]]
ACCOUNT = good()["broker"][2:]


def where(vault):
    """Return the broker and the brokers of the vault."""
    broker = cbor.decode(vault.get("broker"))
    equal(broker[2:], ACCOUNT)
    listed = vault.get("brokers")
    return broker[:2], None if listed is None else cbor.decode(listed)


def test_other_brokers():
    vault = provisioned()
    before = where(vault)
    board = Board(vault)
    board.connect()
    board.run(id=1, policy=OLD_RECORD, brokers=HUBS)
    equal((where(vault), board.agent.server), (before, tuple(before[0])))
    check(board.connect())
    check(list(board.agent.server) in [hub[:2] for hub in HUBS])
    equal(where(vault), (HUBS[0][:2], [1, HUBS]))
    state = board.run()
    equal((state["proved"], state["pending"]), (1, False))
    # Fewer, and one alone: as a device that never had several.
    again = Board(reopened(vault))
    again.run(id=2, policy=NEW, brokers=HUBS[1:])
    check(again.connect())
    equal((where(again.vault), again.agent.server), ((HUBS[1][:2], None), ("hub-2", 8884)))
    equal(again.vault.get("policy"), NEW)
    last = Board(reopened(again.vault)).agent
    equal((last.server, hasattr(last.backoff, "server")), (("hub-2", 8884), False))


def test_other_brokers_that_do_not_work():
    vault = provisioned()
    vault.put("brokers", cbor.encode([1, [["old-1", 1, 0], ["old-2", 2, 0]]]))
    before = where(vault)
    board = Board(vault, works=False)
    board.connect()
    board.run(id=1, policy=NEW, brokers=HUBS)
    tried = []
    for _ in range(4):  # two rounds of two
        equal(board.connect(), False)
        tried.append(board.agent.server)
        link_failure_record(board.agent)
    equal(sorted(tried), sorted([tuple(hub[:2]) for hub in HUBS] * 2))
    check(board.connect())
    equal((where(vault), board.agent.server), (before, ("old-1", 1)))
    check("policy-failed" in [one["code"] for one in board.incidents()])


def test_brokers_that_are_refused():
    board = Board(provisioned())
    for brokers in (
        None,
        [],
        {},
        HUBS * 5,
        HUBS + HUBS,
        [["hub-1", 8883]],
        [["hub-1", 8883, 101]],
        [["hub-1", 0, 0]],
        [["", 8883, 0]],
        [["hub-1", 8883, 0, "password"]],
    ):
        raises("bad-body", lambda one=brokers: board.run(id=1, policy=NEW, brokers=one))
    equal((board.vault.get("policy_new"), board.agent.rotation), (None, None))


def test_brokers_of_a_device_with_a_choice_of_log_ins():
    choice = [["hub-1", 8884, 0, "certificate"], ["hub-1", 8883, 0, "password"]]
    check_record([choice, "certificate-or-password"], "brokers")
    for brokers in (HUBS, choice[:1], choice + [["hub-2", 1, 0, "token"]]):
        raises(
            "bad-body",
            lambda one=brokers: check_record([one, "certificate-or-password"], "brokers"),
        )


def with_outbox(vault=None, **terms):
    """Return a board whose policy has an outbox, and a session that takes its events."""
    if vault is None:
        bundle = good()
        bundle["policy"] = fourth(**terms)
        vault = provisioned(bundle)
    return Board(vault)


def publish(board, count):
    """Publish events while no application is there."""
    for session in board.agent.sessions:
        session.up = False
    return [
        asyncio.run(board.agent.delivery.publish("door", {}, None, False)) for _ in range(count)
    ]


def waiting(board):
    return [entry.number for entry in board.agent.delivery._outbox.entries()]


def changed(board, id, **terms):
    """Give the board other terms of the outbox, and let them prove themselves."""
    board.run(id=id, policy=fourth(**terms))
    check(board.connect())
    equal(board.vault.get("policy"), fourth(**terms))


def test_an_outbox_that_grows_shrinks_and_goes():
    board = with_outbox(outbox=4)
    publish(board, 3)
    changed(board, 1, outbox=6, outbox_drop="newest")
    equal(publish(board, 4), ["queued"] * 3 + ["dropped"])
    equal(waiting(board), [1, 2, 3, 4, 5, 6])
    changed(board, 2, outbox=2)
    equal(waiting(board), [5, 6])
    delivery = board.agent.delivery
    changed(board, 3, outbox=0)
    equal((board.agent.delivery, board.agent.inbox.delivery), (None, None))
    check(asyncio.run(delivery.run()))  # its task has ended
    lost = [i["n"] for i in board.incidents() if i["code"] == "outbox-full"]
    equal(sum(lost), 1 + 4 + 2)
    # And one where none was: numbers go on above all that were used.
    changed(board, 4, outbox=4)
    equal(publish(board, 1), ["queued"])
    equal(waiting(board), [4097])


def test_an_outbox_that_is_kept_over_a_restart_from_now_on_and_no_longer():
    board = with_outbox(outbox=4)
    changed(board, 1, outbox=4, outbox_keep="reboot")
    publish(board, 2)
    board.agent.delivery.save_at_end()
    board = with_outbox(reopened(board.vault))
    equal(len(waiting(board)), 2)
    changed(board, 2, outbox=8)
    equal((len(waiting(board)), board.vault.get("outbox0")), (2, None))
    equal(waiting(with_outbox(reopened(board.vault))), [])


def test_a_change_that_does_not_prove_itself_leaves_the_outbox():
    board = with_outbox(outbox=4)
    publish(board, 3)
    board.works = False
    board.run(id=1, policy=NEW_OUTBOX)
    for _ in range(TRIES):
        board.agent.rotation.choose_secrets()
        board.agent.rotation.failed(link_failure("link-timeout"))
        equal(waiting(board), [1, 2, 3])
    board.connect()
    equal((waiting(board), board.agent.delivery._keeps), ([1, 2, 3], False))


def test_an_outbox_that_the_heap_has_no_room_for():
    board = with_outbox(outbox=4)
    publish(board, 2)
    board.run(id=1, policy=fourth(outbox=8))

    def full(*_):
        raise MemoryError

    board.agent.delivery._make = full
    closed = []
    for _ in range(2):
        board.agent.rotation.choose_secrets()
        board.agent.client.close = lambda: closed.append(1)
        board.agent.sessions[0].up, board.agent.sessions[0].diverged = True, False
        board.pass_ms(0, 60000)
        if board.agent.rotation is None:
            break
    equal((len(closed), waiting(board)), (1, [1, 2]))
    equal((board.agent.policy.connection["outbox"], board.vault.get("policy_new")), (4, None))
    equal([i["code"] for i in board.incidents()], ["policy-failed"])


def test_refused():
    board = Board(provisioned())
    for args in (
        {"id": 1},
        {"policy": NEW},
        {"id": 1, "policy": NEW, "more": 1},
        {"id": 0, "policy": NEW},
        {"id": 1 << 32, "policy": NEW},
        {"id": True, "policy": NEW},
        {"id": "1", "policy": NEW},
        {"id": 1, "policy": {}},
        {"id": 1, "policy": b""},
        {"id": 1, "policy": NEW[:-1]},
        {"id": 1, "policy": bytes(600)},
        {"id": 1, "policy": record(stall_ms=30001)},
        {"id": 1, "policy": record(more=1)},
        # This firmware has no code for it.
        {"id": 1, "policy": fourth(v=5)},
    ):
        check(isinstance(raises("bad-body", lambda args=args: board.run(**args)), PeerError))
    equal((board.vault.get("policy_new"), board.agent.rotation), (None, None))


def test_an_order_is_taken_once_and_one_change_at_a_time():
    board = Board(provisioned())
    board.run(id=5, policy=NEW)
    for id in (4, 5):
        raises("unexpected", lambda id=id: board.run(id=id, policy=NEW))
    check(isinstance(raises("busy", lambda: board.run(id=6, policy=NEW)), LinkError))
    rotate = {"id": 1, "password": b"a new password"}
    raises("busy", lambda: board.agent.run_authority_command("rotate", rotate))
    check(board.connect())
    raises("unexpected", lambda: board.run(id=5, policy=NEW))
    board.run(id=6, policy=record(stall_ms=7000))
    board = Board(provisioned())
    board.agent.run_authority_command("rotate", rotate)
    raises("busy", lambda: board.run(id=1, policy=NEW))
    equal(board.vault.get("policy_new"), None)


def test_each_start_is_a_try():
    vault = provisioned()
    Board(vault).run(id=1, policy=NEW)
    for _ in range(TRIES):
        vault = reopened(vault)
        Board(vault).agent.rotation.choose_secrets()
    board = Board(reopened(vault))
    check(board.connect())
    equal(board.vault.get("policy"), good()["policy"])
    check(old_values(board))


def test_a_policy_of_a_newer_firmware_that_was_given_back():
    vault = provisioned()
    Board(vault).run(id=1, policy=NEW)
    fields = cbor.decode(vault.get("policy_new"))
    fields[2] = fourth(v=5)
    vault.put("policy_new", cbor.encode(fields))
    board = Board(reopened(vault))
    check(board.connect())
    check(old_values(board))
    equal([i["code"] for i in board.incidents()], ["policy-failed"])
    equal(board.vault.get("policy_new"), None)


# With other brokers, and an outbox that was saved and is kept no longer.
KEPT = fourth(outbox=4, outbox_keep="reboot")
NEW_OUTBOX = fourth(outbox=2, outbox_drop="newest", stall_ms=30000)


def test_a_power_cut_at_every_operation_of_brokers_and_outbox():
    def provide(store):
        bundle = good()
        bundle["policy"] = KEPT
        board = Board(provisioned(bundle, store))
        publish(board, 3)
        board.agent.delivery.save_at_end()

    for works in (True, False):

        def life(vault, done, works=works):
            board = Board(vault, works)
            if not done and vault.counter("policy") == 0:
                board.connect()
                board.run(id=1, policy=NEW_OUTBOX, brokers=HUBS)
                done.append("ordered")
            for _ in range(2 * len(HUBS) + 2):
                up = board.connect(NEW_OUTBOX)
                # At each moment all is old, or all is new.
                old = vault.get("policy") == KEPT
                equal(where(vault)[1], None if old else [1, HUBS])
                equal(vault.get("outbox0") is None, not old)
                if up and board.agent.rotation is None:
                    equal(len(waiting(board)) in ((3,) if old else (0, 2)), True)
                    return True
            return False

        def verify(vault, works=works):
            taken = vault.counter("policy") == 1
            proved = vault.counter("policy_good") == 1
            equal(proved, works and taken)
            equal(vault.get("policy"), NEW_OUTBOX if proved else KEPT)
            equal(vault.get("policy_new"), None)

        cut_everywhere(provide, life, verify)


def life(vault, works, done):
    """Run one start until the power goes; return True where nothing is pending at its end."""
    board = Board(vault, works)
    if not done and vault.counter("policy") == 0:
        board.connect()
        board.run(id=1, policy=NEW)
        done.append("ordered")
    for _ in range(2 * TRIES):
        up = board.connect()
        # At each moment there is a whole record, old or new.
        check(vault.get("policy") in (good()["policy"], NEW))
        if up and board.agent.rotation is None:
            return True
    return False


def test_a_power_cut_at_every_operation():
    """Cut once at each operation of the store; at a third of them, again and again."""
    for works, again in ((True, False), (False, False), (False, True)):

        def verify(vault, works=works, again=again):
            taken = vault.counter("policy") == 1
            proved = vault.counter("policy_good") == 1
            equal(vault.get("policy"), NEW if proved else good()["policy"])
            equal(vault.get("policy_new"), None)
            if not again:
                # One cut costs at most one of three tries.
                equal(proved, works and taken)

        cut_everywhere(
            lambda store: provisioned(None, store),
            lambda vault, done, works=works: life(vault, works, done),
            verify,
            again,
            3 if again else 1,
        )
