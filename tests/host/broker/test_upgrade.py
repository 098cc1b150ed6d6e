"""A registry from before gets the guard's account, and devices one subscription each."""

import json

from host_kit import DEVICE, new_fleet
from warden_client.protocol import key_lists
from warden_host import names
from warden_host.broker.accounts import app_account, device_account
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.broker.mosquitto.guard import GUARD_PASSWORD
from warden_host.broker.mosquitto.upgrade import upgrade


def kinds(fleet, role: str) -> set[str]:
    (found,) = [each for each in dynsec.load(fleet.broker)["roles"] if each["rolename"] == role]
    return {acl["acltype"] for acl in found["acls"] if acl["acltype"].startswith("subscribe")}


def test_an_older_registry_is_brought_up_to_date(tmp_path):
    fleet = new_fleet(tmp_path)
    with registry.opened(fleet) as accounts:
        accounts.put(device_account("relay", DEVICE, "x" * 32))
        accounts.put(app_account("home", ("relay",), "y" * 32))
    assert kinds(fleet, f"device:relay:{DEVICE}") == {"subscribeLiteral"}
    path = fleet.broker / dynsec.FILE
    document = dynsec.load(fleet.broker)
    for role in document["roles"]:
        role["acls"] = [
            {**acl, "acltype": acl["acltype"].replace("Literal", "Pattern")}
            for acl in role["acls"]
            if not acl["topic"].endswith("/cmd/+/fmt/+")
            and not acl["topic"].startswith(key_lists.PREFIX)
        ]
    path.write_text(json.dumps(document))
    assert kinds(fleet, f"device:relay:{DEVICE}") == {"subscribePattern"}
    upgrade(fleet)
    assert kinds(fleet, f"device:relay:{DEVICE}") == {"subscribeLiteral"}
    for appid, types in (("home", ("relay",)), (names.AUTHORITY, ("+",))):
        account = app_account(appid, types, "")
        (role,) = [one for one in document["roles"] if one["rolename"] == account.role]
        assert len(role["acls"]) == 3
        (role,) = [
            one for one in dynsec.load(fleet.broker)["roles"] if one["rolename"] == account.role
        ]
        assert role["acls"] == dynsec.acl_entries(account)[3:] + dynsec.acl_entries(account)[:3]
    document = json.loads(path.read_text())
    (guard,) = [one for one in document["clients"] if one["username"] == names.GUARD]
    assert guard["clientid"] == names.GUARD
    assert (fleet.keys / GUARD_PASSWORD).stat().st_mode & 0o77 == 0
    before = path.read_bytes(), (fleet.keys / GUARD_PASSWORD).read_bytes()
    upgrade(fleet)
    assert before == (path.read_bytes(), (fleet.keys / GUARD_PASSWORD).read_bytes())
    (fleet.keys / GUARD_PASSWORD).unlink()
    upgrade(fleet)
    assert len(json.loads(path.read_text())["clients"]) == len(document["clients"])
