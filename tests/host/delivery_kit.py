"""Servers on this machine that take mails and webhooks, with certificates of their own CA."""

import http.server
import ssl
import threading
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.fleet import pki

HERE = "127.0.0.1"
PASSWORD = "p" * 20
SECRET = b"s" * 32


def make_secrets(made: Path) -> Path:
    """Write a CA, keys of a server and of a stranger, and the secrets that deliveries read."""
    authority = pki.new_ca()
    (made / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(authority.der()))
    leaf = authority.issue((HERE, "localhost"))
    (made / "leaf.pem").write_bytes(leaf.certificate_pem() + leaf.key_pem())
    stranger = pki.new_ca().issue((HERE,))
    (made / "stranger.pem").write_bytes(stranger.certificate_pem() + stranger.key_pem())
    for name, data in (("otp-mail.password", PASSWORD.encode()), ("otp-webhook.secret", SECRET)):
        (made / name).write_bytes(data)
        (made / name).chmod(0o600)
    return made


def server_context(folder, name="leaf.pem") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / name)
    return context


class Mailbox:
    def __init__(self) -> None:
        self.mails: list = []
        self.answer = "250 OK"
        self.refusal = "550 no such mailbox"
        self.goodbye = "221 Bye"

    async def handle_QUIT(self, server, session, envelope):
        if not self.goodbye:
            server.transport.abort()
        return self.goodbye

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope, session))
        return self.answer

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"warden", PASSWORD.encode())
    return AuthResult(success=good, handled=False)


def start_mail(folder: Path, security: str, certificate: str = "leaf.pem"):
    """Return a mailbox and the controller of its server, which runs."""
    box = Mailbox()
    context = server_context(folder, certificate)
    given: dict = {
        "tls": {"ssl_context": context},
        "starttls": {"tls_context": context, "require_starttls": True},
        "none": {},
    }[security]
    if security != "none":
        given |= {
            "authenticator": authenticate,
            "auth_required": True,
            "auth_require_tls": security == "starttls",
        }
    (port,) = free_ports(1)
    controller = Controller(box, hostname=HERE, port=port, ready_timeout=PATIENCE_S, **given)
    controller.start()
    return box, controller


class Hook:
    """A server that takes POSTs over TLS."""

    def __init__(self, folder, certificate="leaf.pem") -> None:
        self.taken: list = []
        self.status = 204
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hook.taken.append((self.path, dict(self.headers), data))
                self.send_response(hook.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer((HERE, 0), Handler)
        context = server_context(folder, certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"https://{HERE}:{self._server.server_address[1]}/codes"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
