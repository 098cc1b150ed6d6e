"""A request on the control socket with an application's token has the token's rights alone."""

import pytest
from host_kit import new_fleet, refused
from requests_kit import Authority, send
from warden_host.devices import app_tokens, setup
from warden_host.protocol import policy
from warden_host.protocol.access_token import Scope
from warden_host.service.run import _Dispatcher
from warden_host.store.store import App, Device, Store


@pytest.fixture
def world(tmp_path):
    fleet = new_fleet(tmp_path)
    with Store(fleet.database) as store:
        setup.add_app(fleet, store, App("home", ("lock",), ("get_relay", "set_relay")))
        with store.transaction():
            store.add_device(Device("D1", "lock", "UNIX", "sealed", policy.record()))
        handler = _Dispatcher()
        handler.authority, handler.fleet = Authority(store), fleet
        scope = Scope(("lock",), False, ("get_relay",))
        made, text = app_tokens.issue(fleet, store, "home", scope, 1)
        yield handler, made, text, store, fleet


def test_a_token_speaks_for_its_application(world):
    handler, _, text, _, _ = world
    assert send(handler, token=text).app == "home"
    assert send(handler, token=text, app="home").app == "home"
    # Without one the socket's owner speaks, as ever.
    assert send(handler).app == ""


def test_what_it_does_not_allow(world):
    handler, made, text, store, fleet = world
    for fields in (
        {"command": "set_relay"},
        {"command": "wipe"},
        {"app": "authority"},
        {"app": "garden"},
        {"forge": "replay"},
    ):
        with refused("token-scope"):
            send(handler, token=text, **fields)
    with refused("token-invalid"):
        send(handler, token=text[:-2])
    with refused("control-malformed"):
        send(handler, token="x" * 9000)
    with refused("control-malformed"):
        send(handler, token=None)
    app_tokens.revoke(fleet, store, made.id)
    with refused("token-revoked"):
        send(handler, token=text)
    assert handler.authority.given == []
