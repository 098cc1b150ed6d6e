"""Put the account of a broker into the vault of this board; run once (docs/standalone.md).

Reads one line of JSON from the console: host, port, client_id; user and password in hex or null;
cas, the CA certificates as DER in hex; pins, SHA-256 in hex. No file on the board holds it.
"""

import json
import os
import sys

from warden.crypto.kdf import hmac_sha256
from warden.crypto.rand import random_bytes
from warden.hal.rootkey_software import SoftwareRootKey
from warden.hal.store_file import FileStore
from warden.standalone import store
from warden.vault import Vault

FOLDER = os.getcwd().rstrip("/")

given = json.loads(sys.stdin.readline())
vault = Vault(
    FileStore(FOLDER + "/vault"), SoftwareRootKey(FOLDER + "/root-key", hmac_sha256, random_bytes)
)
vault.create()


def octets(text):
    return None if text is None else bytes.fromhex(text)


store(
    vault,
    (given["host"], given["port"]),
    given["client_id"],
    octets(given["user"]),
    octets(given["password"]),
    [octets(ca) for ca in given["cas"]],
    [octets(pin) for pin in given["pins"]],
)
print("stored")
