"""A vault under a key that espefuse burnt: given on standard input as JSON, answered as JSON.

See tests/e2e/test_efuse.py.
"""

import json
import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

from board_model import DictStore  # noqa: E402
from hmac_model import Peripheral  # noqa: E402  (the path must be set first)
from warden.crypto.kdf import hmac_sha256  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.hal.rootkey_efuse import EfuseRootKey  # noqa: E402
from warden.vault import Vault  # noqa: E402

question = json.loads(sys.stdin.read())
fuses = {
    int(block): (purpose, bytes.fromhex(key))
    for block, (purpose, key) in question["fuses"].items()
}
stranger = {block: (purpose, bytes(31) + b"\x01") for block, (purpose, _) in fuses.items()}


def root_key(keys, block):
    return EfuseRootKey(question["chip"], block, hmac_sha256, Peripheral(question["chip"], keys))


answer = {"macs": {}}
for block in range(6):
    try:
        answer["macs"][block] = root_key(fuses, block).mac(b"message").hex()
    except StoreError as error:
        answer["macs"][block] = error.code
store = DictStore()
vault = Vault(store, root_key(fuses, question["block"]))
vault.create()
vault.put("secret", b"value")
vault.close()
again = Vault(store, root_key(fuses, question["block"]))
again.open()
answer["value"] = again.get("secret").decode()
try:
    Vault(store, root_key(stranger, question["block"])).open()
    answer["stranger"] = "opened"
except StoreError as error:
    answer["stranger"] = error.code
print(json.dumps(answer))
