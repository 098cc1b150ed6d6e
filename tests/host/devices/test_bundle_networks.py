"""The Wi-Fi networks of a provisioning bundle."""

import pytest
from cli_kit import fails
from warden_client.protocol import strictcbor
from warden_host.devices import bundle
from warden_host.devices.bundle import Network
from warden_host.devices.token_terms import TokenTerms
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.store import Device, Pair

DEVICE = Device(
    "porch",
    "lock",
    "RPI_PICO_W",
    "sealed",
    policy.record(),
    pairs=(Pair("authority", bytes(32), bytes(32), ()),),
)


def build(*networks: Network, token: TokenTerms | None = None) -> object:
    data = bundle.build(
        DEVICE,
        host="broker.example",
        port=8883,
        user="d:lock:porch",
        client_id="d:lock:porch",
        password="a password",
        authorities=[b"certificate"],
        pins=[bytes(32), bytes(31) + b"1"],
        networks=networks,
        token=token,
    )
    return strictcbor.decode(data)["network"]


def test_networks_in_their_order() -> None:
    garden, cafe = Network("garden", "gr\u00fcn gr\u00fcn"), Network("cafe")
    assert build(garden, cafe) == [["garden", "gr\u00fcn gr\u00fcn".encode()], ["cafe", b""]]
    assert build() is None


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        ([Network(f"n{i}") for i in range(9)], "8 Wi-Fi networks at most"),
        ([Network("garden"), Network("garden", "a password")], "twice"),
        ([Network("")], "1 to 32 bytes"),
        ([Network("\u00fc" * 17)], "1 to 32 bytes"),
        ([Network("garden", "seven77")], "neither empty nor of 8 to 64 bytes"),
        ([Network("garden", "x" * 65)], "neither empty nor of 8 to 64 bytes"),
        ([Network("gard\udcffn")], "is not UTF-8"),
        ([Network("garden", "seven77\udcff")], "is not UTF-8"),
    ],
)
def test_what_no_device_takes(networks: list[Network], why: str) -> None:
    with pytest.raises(HostError, match=why) as refused:
        build(*networks)
    assert refused.value.code == "bad-argument"
    assert "seven77" not in str(refused.value) and "xxx" not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Network("garden", "secret password"))


def test_a_board_that_joins_wifi_needs_a_network(folder, capsys) -> None:
    fails(capsys, "no-network", "provision", "D1", "--sim", "--board", "RPI_PICO_W")
    assert not (folder / "sim" / "D1").exists()


def test_terms_of_a_token_that_no_device_takes() -> None:
    build(token=TokenTerms("https://id.example/token", "lock-1", b"secret"))
    with pytest.raises(HostError) as error:
        build(token=TokenTerms("http://id.example/token", "lock-1", b"secret"))
    assert error.value.code == "bad-argument"
