"""[reactions] of warden.toml: strict keys, safe defaults, overrides of types and of devices."""

import ast
import re

import pytest
from host_kit import new_fleet, refused
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.reactions import settings
from warden_host.reactions.settings import ALERT, CODES, DEREGISTER, IGNORE, QUARANTINE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return new_fleet(tmp_path_factory.mktemp("reactions"))


@pytest.fixture
def load(folder):
    path = folder.root / CONFIG
    before = path.read_text()

    def read(text: str) -> settings.ReactionSettings:
        path.write_text(before + text)
        return settings.load(Fleet(folder.root))

    yield read
    path.write_text(before)


def test_defaults_restrict_for_what_the_account_itself_did_alone(load):
    rules = load("").rules("lock", "D1")
    assert rules.reaction("device-flood") == DEREGISTER
    assert rules.reaction("device-cloned") == QUARANTINE
    restricting = {code for code, kind in rules.reactions.items() if kind not in (IGNORE, ALERT)}
    assert restricting == {"device-flood", "account-flood", "device-cloned"}
    assert rules.reaction("not-allowed") == IGNORE
    assert rules.budget == settings.Budget()


def test_a_device_overrides_its_type_and_its_type_the_fleet(load):
    found = load("""
[reactions]
tampered = "ignore"
messages_s = 100
[reactions.type.lock]
tampered = "quarantine"
messages_s = 50
[reactions.device.D1]
tampered = "de-register"
""")
    assert found.rules("lamp", "D2").reaction("tampered") == IGNORE
    assert found.rules("lock", "D2").reaction("tampered") == QUARANTINE
    assert found.rules("lock", "D1").reaction("tampered") == DEREGISTER
    assert found.rules("lock", "D1").budget.messages_s == 50
    assert found.rules("lamp", "D2").budget.messages_s == 100
    assert found.rules("lamp", "D2").reaction("device-flood") == DEREGISTER


@pytest.mark.parametrize(
    "text",
    [
        'tamperd = "alert"',
        'tampered = "wipe"',
        "tampered = true",
        "tampered = []",
        "messages_s = 0",
        "messages_s = 1000000",
        "messages_s = true",
        'kib_s = "1"',
        "tolerance_s = 1.5",
        "type = 1",
        'type = {"a b" = {}}',
        "device = {D1 = 1}",
        'device = {D1 = {tamperd = "alert"}}',
        'device = {D1 = {type = "lock"}}',
    ],
)
def test_what_it_does_not_know_is_refused(load, text):
    code = "bad-name" if "a b" in text else "config-malformed"
    with refused(code):
        load(f"[reactions]\n{text}\n")


def test_a_misspelt_code_is_answered_with_the_nearest(load):
    with refused("config-malformed") as error:
        load('[reactions]\ntamperd = "alert"\n')
    assert "tampered" in str(error)


def test_each_code_is_in_the_documentation(repo):
    text = (repo / "docs/errors.md").read_text()
    missing = [code for code in sorted(CODES) if f"| `{code}` |" not in text]
    assert missing == ["otp-late", "otp-limit", "otp-replayed"]  # of docs/otp.md


def test_each_code_that_a_device_or_the_authority_may_record_can_be_given(repo):
    registry = ast.parse((repo / "lib/warden/errors.py").read_text())
    found = {"no-board", "incident-gap", "incident-tampered", "stale-hello", "revoked"}
    for node in ast.walk(registry):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("LINK", "PEER", "STORE", "MEMORY"):
                found |= set(ast.literal_eval(node.value))
    # No incidents: of an open gate, of a board without a vault, of an application's own handler.
    never = {"gate-open", "not-provisioned", "already-provisioned", "command-failed"}
    assert found - never <= CODES
    assert not never & CODES
    _, _, text = (repo / "docs/incidents.md").read_text().partition("Four codes are none: ")
    assert never == set(re.findall("`([a-z]+-[a-z]+)`", text.partition("\n\n")[0]))


def test_a_tampered_log_and_a_tamper_switch_have_their_reactions(load):
    made = load('[reactions]\nincident-tampered = "quarantine"\ntamper-detected = "de-register"\n')
    rules = made.rules("lock", "front-door")
    assert rules.reaction("incident-tampered") == QUARANTINE
    assert rules.reaction("tamper-detected") == DEREGISTER
