"""`warden revoke` while a broker does not follow."""

import pytest
import rabbitmq_model
from warden_host import control_client
from warden_host.cli import main

model, fleet, store = rabbitmq_model.FIXTURES


@pytest.mark.parametrize("target", [("D1", "--yes"), ("--file", "lost.txt", "--yes")])
def test_the_authority_is_told_although_rabbitmq_is_away(
    tmp_path, fleet, model, store, monkeypatch, capsys, target
):
    asked = []

    def call(_, request, *__):
        asked.append(request)
        return {"wiped": False}

    monkeypatch.setattr(control_client, "call", call)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost.txt").write_text("D1\n")
    model.down = True
    monkeypatch.setenv("WARDEN_FLEET", str(fleet.root))
    assert main.run(["revoke", *target]) != 0
    assert {"op": "end", "device": "D1"} in asked
    assert "broker-refused" in "".join(capsys.readouterr())
