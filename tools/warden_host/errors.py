"""The codes that the tool `warden` raises beside those of an application, and what to do for each.

The classes, and the codes that both raise, are those of the client package (errors.py there).
"""

from warden_client import errors as client
from warden_client.errors import (
    HostError,
    LinkError,
    OutOfMemory,
    PeerError,
    StoreError,
    UsageError,
    class_of,
    filesystem_error,
    register,
)

__all__ = [
    "CODES",
    "HostError",
    "LinkError",
    "OutOfMemory",
    "PeerError",
    "StoreError",
    "UsageError",
    "class_of",
    "filesystem_error",
    "internal_error",
    "known_error",
]

_RESTORE = "restore it from a backup of the fleet"
_ASK_DEVICES = "`warden devices` lists them; `warden provision` makes one"
_AGAIN = "`warden provision DEVICE --again` gives it all-new secrets"
# Hints for errors that are raised without one of their own.
_HINTS = {
    "account-shared": "`warden rotate DEVICE --password` gives the device a new password",
    "app-exists": "choose another ID; `warden app list` shows those that are taken",
    "app-running": "end the other program: an account has one connection",
    "app-unknown": "`warden app list` shows them; `warden app add` registers one",
    "audit-broken": "compare it with an older export; find out who can write the fleet's folder",
    "bad-argument": "the command's --help lists what it takes",
    "backup-due": "make one first: `warden backup`",
    "backup-damaged": "take another backup, an older one if need be",
    "backup-key": "give the key that the backup was made for",
    "bad-code": "type the code that the authenticator shows now; set this machine's clock right",
    "bad-firmware": "download it again, for this board",
    "bad-json": """give one object in single quotes, such as '{"on": 1}'""",
    "bad-list": "mend the list; no board was touched",
    "bad-name": "1 to 32 of A-Z a-z 0-9 _ - in an ID, of a-z 0-9 _ in a command",
    "board-failed": "give the same command again; report it as a bug if it fails again",
    "board-full": "take a smaller application, or remove files of the board",
    "board-lost": "plug the board in, and give the same command again: it goes on from there",
    "board-provisioned": "`warden provision … --yes` destroys what its vault holds",
    "board-silent": "flash MicroPython onto the board; docs/boards.md says how to begin again",
    "board-unfit": "take another board or another firmware; docs/boards.md says what it needs",
    "broker-failed": "see the log in the fleet's folder broker/",
    "broker-missing": "install the broker; docs/brokers.md names the versions",
    "broker-port": "change the port in warden.toml",
    "broker-refused": "look for an account or a role that was changed by hand",
    "broker-running": "stop the other `warden serve` first",
    "certificate-name": "`warden cert renew-server` issues one for the names of warden.toml",
    "clock-jumped": (
        "set this machine's clock right; if it is right now, confirm it with "
        "`warden serve --accept-clock`"
    ),
    "command-refused": "docs/errors.md explains the device's code; this order changed nothing",
    "config-malformed": "put warden.toml right, or restore it",
    "control-malformed": "use the same version of `warden` in both windows",
    "crl-damaged": "`warden cert crl` writes it anew",
    "database-damaged": _RESTORE,
    "device-cloned": f"find the copy; {_AGAIN}, and the copy's become invalid",
    "messages-lost": (
        "see which device floods, and whether this machine is too slow: `warden watch`"
    ),
    "account-flood": "find out why it sends so much, then `warden readmit ACCOUNT`",
    "device-flood": "find out why it sends so much, then `warden readmit DEVICE`",
    "device-exists": f"choose another ID; {_AGAIN}, and the old ones become invalid",
    "geo-damaged": "fetch the file anew, and look at the letters of the countries",
    "geo-missing": "name an MMDB file as `countries` in the table [bans] of warden.toml",
    "emulator-missing": "pip install rp2040py; docs/boards.md says how to make it faster",
    "device-running": "stop the other `warden run` first",
    "device-unknown": _ASK_DEVICES,
    "fleet-served": (
        "stop the other host, or let the devices' address lead here; docs/operations.md, Two hosts"
    ),
    "fleet-exists": "choose another folder",
    "fleet-missing": "make a fleet with `warden init FLEET`, or name one with --fleet",
    "flash-differs": "write the signed firmware with `warden flash`, and see it start, first",
    "flooded": "find out why the device sends so much; `warden revoke` cuts it off",
    "gateway-exists": "choose another name; `warden gateway list` shows those that are taken",
    "gateway-unknown": "`warden gateway list` shows them; `warden gateway add` makes one",
    "group-unknown": "`warden group list` shows them; `warden group add` makes one",
    "flash-failed": "give the same command again: it writes the whole firmware anew",
    "fuses-failed": "give the same command again: it continues with what is not burnt yet",
    "image-failed": "change the file or folder that is named; see docs/update.md",
    "internal-error": "report this as a bug",
    "interrupted": "look what is done, `warden devices`, and give the command again",
    "key-damaged": _RESTORE,
    "key-missing": _RESTORE,
    "key-permissions": "chmod 600, as the fleet's owner, and ask who could read it until now",
    "micropython-missing": "run `make setup`, or name the unix port's binary in MICROPYTHON",
    "token-expired": "`warden app token` makes another one",
    "token-invalid": "give the token as `warden app token` printed it",
    "token-revoked": "`warden app token` makes another one",
    "token-missing": "send the header `Authorization: Bearer TOKEN`",
    "token-scope": "`warden app token` makes one with other scopes",
    "token-unknown": "`warden app tokens` lists them",
    "token-unproved": "look at the client ID, the secret and the scope, and try again",
    "network-unproved": "look at its name, its password and its range, and try again",
    "no-boot-volume": "hold BOOTSEL while you plug the board in; mount the volume, or name it",
    "no-board": "boards/README.md says what each name of board.py takes",
    "no-network": "name the Wi-Fi networks that it joins: `warden provision … --wifi SSID`",
    "pins-malformed": "`warden pins export` makes a file anew",
    "policy-unproved": "look at the values, docs/networks.md, and try again",
    "no-session": "wait until the device is online: `warden devices`",
    "not-applicable": "`warden devices` shows the device's mode and state",
    "not-enrolled": "`warden otp enrol DEVICE` makes a secret",
    "not-serving": "start `warden serve`, and give the same command again",
    "origin-refused": "`warden app token --api --origin ORIGIN` makes a token that a page may use",
    "operator-exists": "`warden operator list` shows the operators",
    "operator-unknown": "`warden operator list` shows them; `warden operator add` makes one",
    "owner-only": "give it as the fleet's owner, without --socket",
    "passphrase-missing": "give it by prompt or --passphrase-file",
    "passphrase-wrong": "give the right one, by prompt or --passphrase-file",
    "rate-limited": "wait, and ask less often",
    "port-unknown": "plug the board in, and name its port: --port /dev/ttyACM0",
    "provision-failed": "give the same command again once the cause is gone",
    "incident-gap": "look whether fleet.db came out of a backup, and why the device was away",
    "incident-tampered": "look at the device: what it reported before is not what it has now",
    "quarantined": "look at the device, then `warden devices --clear DEVICE`",
    "registry-damaged": _RESTORE,
    "release-exists": "choose the next version",
    "release-key": "`warden keys list` shows this fleet's keys",
    "release-missing": "`warden release` makes one; restore its folder from a backup",
    "reserved-command": "give the command another name",
    "revoked": _AGAIN,
    "role-missing": "ask the fleet's owner: `warden operator add` gives roles",
    "rollout-running": "stop the other one first: `warden rollouts --stop N`",
    "rollout-unknown": "`warden rollouts` lists them",
    "stale-hello": "`warden devices --clear DEVICE` lets the authority accept it again",
    "timed-out": "look whether the device is online, `warden devices`, and try again",
    "tree-missing": "install the tool from the repository or from its wheel",
    "web-failed": "look whether another program has the port, and at what the command printed",
    "web-missing": "pip install 'warden[web]'",
    "login-paused": "wait some minutes; `warden audit list` shows who tried",
    "login-stale": "log in again",
    "address-refused": "`warden bans list` says why; `warden bans lift` takes a ban back",
    "passkey-refused": "try again, on the console's own page",
    "passkey-cloned": (
        "remove this passkey, and register one anew: `warden operator passkeys NAME`"
    ),
    "passkey-unavailable": "open the console under a host name: `warden serve --web NAME:PORT`",
    "login-refused": "`warden operator login NAME` sets a new password and code",
    "session-ended": "log in again",
    "unreachable": "look whether the host and the port answer",
    "wrong-board": "name the board that is there; boards/ has a folder for each",
    "wrong-device": "choose devices of the release's type",
}

# Beside the registry of the client package. A retired code is never used again.
_OWN: dict[type[HostError], str] = {
    HostError: "internal-error",
    UsageError: """
        address-refused app-exists app-unknown backup-due backup-key bad-code bad-firmware
        bad-list bad-policy board-full board-provisioned board-unfit broker-missing broker-port
        broker-running config-malformed control-malformed device-exists device-running
        emulator-missing flash-differs fleet-exists fleet-missing fleet-served gateway-exists
        gateway-unknown geo-missing group-unknown image-failed interrupted login-paused
        login-refused login-stale micropython-missing no-board no-boot-volume no-network
        not-enrolled not-serving operator-exists operator-unknown origin-refused owner-only
        passkey-cloned passkey-refused passkey-unavailable passphrase-missing passphrase-wrong
        port-unknown rate-limited release-exists release-key release-missing revoked
        role-missing rollout-running rollout-unknown session-ended token-missing token-unknown
        tree-missing web-failed web-missing wrong-board
    """,
    LinkError: "board-lost board-silent flash-failed fuses-failed image-mismatch provision-failed",
    PeerError: """
        account-flood account-shared board-failed certificate-name command-refused device-cloned
        device-flood flooded incident-gap incident-tampered network-unproved old-manifest
        payload-key pins-malformed policy-unproved suit-component suit-condition suit-digest
        suit-limit suit-malformed suit-unsupported token-expired token-invalid token-revoked
        token-scope token-unproved wrong-device
    """,
    StoreError: """
        audit-broken backup-damaged broker-failed crl-damaged database-damaged geo-damaged
        messages-lost registry-damaged
    """,
}
register(_OWN, _HINTS)
CODES = client.registered()


def internal_error(error: BaseException) -> HostError:
    """Return the HostError for an unforeseen exception: its name; its text may hold a secret."""
    return HostError(
        "internal-error", f"{type(error).__name__} in the authority", "report this as a bug"
    )


def known_error(error: Exception) -> HostError:
    """Return an exception as it is, or as internal_error() has it."""
    return error if isinstance(error, HostError) else internal_error(error)
