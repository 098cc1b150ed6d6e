"""`warden bridge`: devices' state and telemetry for Prometheus, Home Assistant and others."""

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warden_host.bridge.bridge import Bridge
from warden_host.cli import listening, screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state, stoppable

if TYPE_CHECKING:
    from warden_host.bridge.web import WebOutlet

_MAX_TOKEN = 8192


@click.command()
@click.option(
    "--http", metavar="HOST:PORT", help="Serve /metrics (Prometheus) and /events (SSE) there."
)
@click.option("--mqtt", "url", metavar="URL", help="Publish to mqtt://HOST:PORT or mqtts://….")
@click.option("--mqtt-user", default="", help="The account at that broker.")
@click.option("--mqtt-password-file", metavar="FILE", help="Its password: mode 600, or -.")
@click.option(
    "--mqtt-ca", type=click.Path(path_type=Path), help="The broker's CA. Default: system."
)
@click.option("--prefix", default="warden", show_default=True, help="Of the topics.")
@click.option("--home-assistant", is_flag=True, help="Announce the values by MQTT discovery.")
@click.option(
    "--commands-token-file",
    metavar="FILE",
    help="Take commands from that broker, with the rights of this token (`warden app token`).",
)
@json_option
@pass_state
def bridge(
    state: State,
    http: str | None,
    url: str | None,
    mqtt_user: str,
    mqtt_password_file: str | None,
    mqtt_ca: Path | None,
    prefix: str,
    home_assistant: bool,
    commands_token_file: str | None,
    as_json: bool,
) -> int:
    """Pass state and telemetry on: Prometheus, Home Assistant, SSE.

    It opens what was sealed: bind --http to loopback, and use a broker that you trust with it.
    Commands are taken only with a token, which says for which devices and commands.

    \b
    Examples:
      warden bridge --http 127.0.0.1:9810
      warden bridge --mqtt mqtt://127.0.0.1:1883 --home-assistant
      warden bridge --mqtt mqtt://127.0.0.1:1883 --commands-token-file home.token
      warden --socket /run/warden/home.sock bridge --http 127.0.0.1:9810
    """
    if http is None and url is None:
        raise click.UsageError("name where to: --http HOST:PORT, or --mqtt URL, or both")
    if url is None and (commands_token_file or home_assistant):
        raise click.UsageError("--commands-token-file and --home-assistant are for --mqtt")

    def say(text: str) -> None:
        if as_json:
            screen.print_json({"text": text})
        else:
            screen.show(text)

    # While a signal ends a wait for standard input.
    password = _secret(mqtt_password_file, "password", "--mqtt-password-file")
    token = _secret(commands_token_file, "token", "--commands-token-file").decode()
    with stoppable(as_json) as stop, contextlib.ExitStack() as stack:
        made = Bridge(state.control(), say, stop)
        if http is not None:
            stack.enter_context(contextlib.closing(_web(made, http)))
        if url is not None:
            from warden_host.bridge.mqtt import CommandTaker, MqttOutlet, MqttSettings

            settings = MqttSettings(
                url,
                mqtt_user,
                password,
                mqtt_ca,
                prefix,
                "homeassistant" if home_assistant else "",
            )
            commands = partial(CommandTaker, state.control(), token, tell=made.tell)
            outlet = MqttOutlet(made, settings, commands if token else None)
            made.outlets.append(outlet)
            stack.enter_context(contextlib.closing(outlet))
        made.run()
    return 0


def _web(made: Bridge, address: str) -> "WebOutlet":
    with listening.on(address, "--http") as (host, port):
        from warden_host.bridge.web import WebOutlet

        outlet = WebOutlet(made, host, port)
    made.outlets.append(outlet)
    listening.show(host, outlet.port)
    return outlet


def _secret(file: str | None, what: str, option: str) -> bytes:
    return b"" if file is None else secrets_input.secret(file, what, option, _MAX_TOKEN, new=False)
