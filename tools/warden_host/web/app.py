"""Put the console together: pages, files, what every request meets first."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from warden_host.errors import HostError
from warden_host.relying_party import relying_party
from warden_host.web import assets
from warden_host.web.admission import AddressGate, Admission
from warden_host.web.api.http import api
from warden_host.web.authority import Authority
from warden_host.web.guard import App, Guard
from warden_host.web.pages.account import AccountPages
from warden_host.web.pages.device import DevicePages
from warden_host.web.pages.fleet import FleetPages
from warden_host.web.pages.groups import GroupPages
from warden_host.web.pages.login import LoginPages
from warden_host.web.pages.otp import OtpPages
from warden_host.web.pages.safety import SafetyPages
from warden_host.web.pages.updates import UpdatePages
from warden_host.web.server import host_names
from warden_host.web.site import Ended, Site

STATIC = Path(__file__).parent / "static"
_GROUPS = (
    LoginPages,
    AccountPages,
    FleetPages,
    DevicePages,
    OtpPages,
    GroupPages,
    UpdatePages,
    SafetyPages,
)


def build(path: Path, name: str, host: str, port: int, tls: bool) -> App:
    """Return the application. path: of the web socket. host, port: where it listens."""
    authority = Authority(path)
    site = Site(authority, name, tls, _passkey_page(host, port, tls))
    routes: list[BaseRoute] = [route for group in _GROUPS for route in group(site).routes()]
    routes.append(assets.ROUTE)
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))
    routes.append(Mount("/api/v1", app=api(site.authority)))
    handlers: dict[Any, Any] = {
        each: site.failed for each in (Ended, HostError, HTTPException, Exception)
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    guard = Guard(inner, host_names(host, port, tls), tls)
    # On loopback each address is this machine's own, which is never kept out.
    return AddressGate(guard, Admission(authority).admits) if tls else guard


def _passkey_page(host: str, port: int, tls: bool) -> str:
    """Return the page of the origin that passkeys are for, or "" where there is none."""
    party = relying_party(host, port, tls)
    return f"{party.origin}/" if party else ""
