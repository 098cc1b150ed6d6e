"""Options that say nothing together, or twice: each is told by what is wrong with it."""

import pytest
from cli_kit import fails
from warden_host.backup import age
from warden_host.cli import exit_codes, main
from warden_host.errors import HostError

KEY = "age1m7rdldpwq6er97fd6xzgax9wh8lt5llnsxeunj7wkff2qyyw89dqh0txyt"
RELEASE = "release . --version 1 --type lock"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("backup make b.age" + f" --to {KEY}" * (age.MAX_RECIPIENTS + 1), "for at most"),
        (f"backup make b.age --to {KEY} --passphrase-file p", "exclude each other"),
        ("bans lift", "name the networks, or give --all"),
        ("bans lift --all 203.0.113.7", "name the networks, or give --all"),
        ("bridge", "name where to"),
        ("bridge --http 127.0.0.1:0 --home-assistant", "are for --mqtt"),
        ("bridge --http 127.0.0.1:0 --commands-token-file t", "are for --mqtt"),
        ("doctor --key-file k", "go with --backup"),
        ("doctor --backup b.age D1", "looks at a backup alone"),
        ("provision D1 --board UNIX --bundle none/b", "there is no folder none"),
        ("provision --sim", "name a DEVICE, or a list of them"),
        ("provision D1 --sim --batch list", "name a DEVICE, or a list of them"),
        ("release . --type lock", "needs --version and --type"),
        ("release . --version 1", "needs --version and --type"),
        (f"{RELEASE} --arch armv6m", "--arch goes with --mpy"),
        (f"{RELEASE} --public-key k.pem", "--public-key goes with --attach"),
        (f"{RELEASE} --url http://e.example/", "must begin with https://"),
        (f"{RELEASE} --component a=. --component a=.", "each name once"),
        (f"{RELEASE} --component app=.", "not app"),
        ("rollouts --follow", "name the rollout"),
        ("rollouts --stop", "name the rollout"),
        ("rollouts --resume", "name the rollout"),
        ("rotate D1 --new-backup", "--new-backup goes with --pins"),
        ("rotate D1 --live-pin-ends 5", "--live-pin-ends goes with --pins"),
        ("run D1 D2", "several devices go with --web"),
        ("run D1 D2 --pico p.uf2", "--pico takes one device"),
        ("run D1 --web 0 --once", "--once does not go with --web"),
        ("serve --web-listen 127.0.0.1:0", "takes --web HOST:PORT as well"),
        (
            "token D1 --renew --token-url https://i.example/t --client-id c",
            "--renew and --token-url exclude each other",
        ),
    ],
)
def test_options_that_are_refused(folder, capsys, command, text):
    assert main.run(command.split()) == exit_codes.of(HostError("bad-argument"))
    told = " ".join(capsys.readouterr().err.split())
    assert text in told and "Traceback" not in told


def test_a_name_of_a_device_that_is_none_gets_no_token(folder, capsys):
    fails(capsys, "bad-name", "token", "a/b")


def test_a_key_is_not_written_over(folder, tmp_path, capsys):
    key = tmp_path / "key.txt"
    key.write_text("mine")
    fails(capsys, "filesystem", "backup", "key", str(key))
    assert key.read_text() == "mine"
