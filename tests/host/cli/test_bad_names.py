"""A name of another form is refused as such: it never reaches a file's path or the database."""

import pytest
from cli_kit import fails

APPLICATIONS = """
app remove a/b --yes
app grant a/b --command set_relay
app rename a/b home
app passwd a/b
app show a/b
app token a/b --read
"""
DEVICES = """
cert renew a/b
cert revoke a/b --yes
clock show a/b
develop a/b --yes
otp enrol a/b
otp owner a/b
pins apply a/b FILE
policy set a/b update=any
readmit a/b
rotate a/b
revoke a/b --yes
unlock a/b
show a/b
"""
GATEWAYS = """
gateway add a/b --out g.json
gateway add hall --device a/b --out g.json
gateway export a/b --out g.json
gateway remove a/b
gateway grant a/b D1
gateway grant hall a/b
gateway revoke a/b D1
"""
GROUPS = """
group add a/b D1
group add g a/b
group remove a/b
group remove g a/b
group list a/b
"""


@pytest.mark.parametrize("commands", [APPLICATIONS, DEVICES, GATEWAYS, GROUPS])
def test_names_of_another_form(folder, capsys, commands):
    for command in commands.strip().splitlines():
        fails(capsys, "bad-name", *command.replace("FILE", str(folder / "warden.toml")).split())
