"""A choice of log-ins: what each way gives the client, and on which one a new secret is proven."""

import asyncio

from agent_kit import NOW, Rig, provisioned
from harness import check, equal
from test_bundle import good
from test_certificate import NEW, OLD
from test_policy import fourth
from warden.errors import LinkError, PeerError
from warden.rotation import commands
from warden.rotation.rotation import prepare
from warden.vault import records
from warden.wire import cbor

PIN = bytes(32)
BOTH = ["certificate", "password"]


def made(auth="certificate-or-password", ways=BOTH):
    fields = good()
    host, port = fields["broker"][:2]
    fields["policy"] = fourth(auth=auth)
    fields["certificate"] = OLD
    fields["brokers"] = [[host, port + at, 0, way] for at, way in enumerate(ways)]
    if "token" in ways:
        terms = [b"https://id.example/token", b"client", b"secret", b"", "basic", None]
        fields["token"] = [1, 0] + terms
    return Rig(provisioned(fields)).start_without_tasks().agent


def attempt(agent, error=None):
    """Choose what a connection needs, as the agent does; end it by the error, if there is one."""
    if agent.rotation is not None:
        agent.rotation.choose_secrets()
    asyncio.run(agent.token.prepare())
    used = agent.server[1], agent.client.user, agent.client.password, agent.trust.is_used
    if error is not None:
        if agent.rotation is not None:
            agent.rotation.failed(error)
        agent.token.failed(error)
        agent.backoff.resume()
        agent.backoff.failed(False)
    return used


USER, PASSWORD = b"d:lamp:lamp-1", b"secret \x00\xff"
BY_CERTIFICATE = (8883, None, None, True)
BY_PASSWORD = (8884, USER, PASSWORD, False)


def test_one_after_the_other():
    agent = made()
    refused = PeerError("own-certificate-refused")
    equal(attempt(agent, refused), BY_CERTIFICATE)
    equal(attempt(agent, PeerError("mqtt-refused")), BY_PASSWORD)
    equal(attempt(agent, LinkError("unreachable")), BY_CERTIFICATE)
    equal(attempt(agent), BY_PASSWORD)
    agent.backoff.failed(True)  # behind a log-in the first one is tried again
    equal(attempt(agent), BY_CERTIFICATE)
    agent = made(ways=BOTH[::-1])  # the owner's order
    equal(attempt(agent, refused)[1:], BY_PASSWORD[1:])


def rotate(agent, **part):
    body = {"id": agent.vault.counter("rotation") + 1}
    body.update(part)
    prepare(agent.vault, body, PIN, NOW)
    commands.start(agent)


def test_a_new_password_is_proven_by_its_own_way():
    agent = made()
    rotate(agent, password=b"new")
    # On the way of the certificate it would prove nothing.
    agent.backoff.prefer("certificate")
    agent.rotation.choose_secrets()
    new = (8884, USER, b"new", False)
    equal(attempt(agent, PeerError("mqtt-refused")), new)
    equal(attempt(agent), BY_CERTIFICATE)
    equal(agent.rotation.secrets.prove(True, []), [])
    agent.backoff.failed(True)
    equal(attempt(agent), new)
    equal(agent.rotation.secrets.prove(True, []), ["password"])
    equal(records.load(agent.vault, "broker")[3], b"new")


def test_a_new_certificate_too():
    agent = made(ways=BOTH[::-1])
    rotate(agent, certificate=NEW)
    equal(attempt(agent, PeerError("own-certificate-refused")), (8884, None, None, True))
    equal(attempt(agent), (8883, USER, PASSWORD, False))
    equal(agent.rotation.secrets.prove(True, []), [])
    agent.backoff.failed(True)
    equal(attempt(agent)[3], True)
    equal(agent.trust.own(), NEW)
    equal(agent.rotation.secrets.prove(True, []), ["certificate"])
    equal(cbor.decode(agent.vault.get("certificate")), NEW)


def test_the_server_s_words_are_about_a_certificate_that_was_shown():
    agent = made()
    for used, code in ((True, "own-certificate-refused"), (False, "link-closed")):
        equal(attempt(agent, PeerError("x"))[3], used)
        equal(agent.trust.refused("link-closed", 0, 42), code)


def test_a_token_is_fetched_where_its_way_is_taken():
    agent = made("certificate-or-token", ["certificate", "token"])
    fetched = []

    async def fetch(name):
        fetched.append(name)
        return b"a token", agent.now_ms() + 3600000

    agent.token._fetch = fetch
    equal(attempt(agent, PeerError("own-certificate-refused")), BY_CERTIFICATE)
    equal(fetched, [])
    equal(attempt(agent, LinkError("unreachable"))[1:], (USER, b"a token", False))
    equal(fetched, ["token"])
    # A refusal of the certificate says nothing of the token.
    attempt(agent, PeerError("mqtt-refused"))
    check(not agent.token.failed(PeerError("mqtt-refused")))
    equal(attempt(agent)[2], b"a token")
