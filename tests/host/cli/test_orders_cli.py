"""`warden revoke` while a broker does not follow."""

import pytest
from host_kit import new_fleet
from rabbitmq_model import RabbitModel, serving
from warden_host import control_client
from warden_host.cli import main
from warden_host.protocol import policy
from warden_host.store.store import Device, Store


@pytest.mark.parametrize("target", [("D1", "--yes"), ("--file", "lost.txt", "--yes")])
def test_the_authority_is_told_although_rabbitmq_is_away(tmp_path, monkeypatch, capsys, target):
    asked = []

    def call(_, request, *__):
        asked.append(request)
        return {"wiped": False}

    monkeypatch.setattr(control_client, "call", call)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost.txt").write_text("D1\n")
    model = RabbitModel("d:lock:D1")
    with serving(model, new_fleet(tmp_path)) as fleet:
        with Store(fleet.database) as store:
            store.add_device(Device("D1", "lock", "UNIX", "sealed", policy.record()))
        model.down = True
        monkeypatch.setenv("WARDEN_FLEET", str(fleet.root))
        assert main.run(["revoke", *target]) != 0
        assert {"op": "end", "device": "D1"} in asked
        assert "broker-refused" in "".join(capsys.readouterr())
