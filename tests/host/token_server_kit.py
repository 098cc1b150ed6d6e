"""An OAuth 2.0 authorization server of Authlib's, over HTTPS: its tokens are JWTs for RabbitMQ."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import server_kit
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask
from joserfc.jwk import ECKey
from warden_host.fleet import pki
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Say nothing."""


class Client(ClientMixin):
    def __init__(self, client_id: str, secret: str, scope: str) -> None:
        self.client_id, self.secret, self.scope = client_id, secret, scope

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return self.scope

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Grant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]


@dataclass
class _Token:
    """A token that this server gave out."""

    client_id: str
    scope: str
    end: float
    revoked: bool = False

    def is_expired(self) -> bool:
        return self.end <= time.time()

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass
class TokenServer:
    """key: signs the tokens. life: seconds of the next ones. made: client ID and time of each.

    given: the tokens, by their text. asked: how often one was introspected. reader: the client
    that may do that.
    """

    key: pki.Key
    life: int = 3600
    clients: dict[str, Client] = field(default_factory=dict)
    made: list[tuple[str, float]] = field(default_factory=list)
    down: bool = False
    port: int = 0
    given: dict[str, _Token] = field(default_factory=dict)
    asked: int = 0
    reader: str = "warden"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/oauth/token"

    def add(self, client_id: str, secret: str, scope: str) -> None:
        self.clients[client_id] = Client(client_id, secret, scope)

    def app(self) -> Flask:
        app = Flask("tokens")
        server = AuthorizationServer(app, self.clients.get, self._save)
        server.register_grant(_Grant)
        server.register_token_generator("default", self._generator())

        server.register_endpoint(self._introspection())

        @app.post("/oauth/introspect")
        def introspect() -> Any:
            self.asked += 1
            if self.down:
                return "down", 503
            return server.create_endpoint_response("introspection")

        @app.post("/oauth/token")
        def token() -> Any:
            if self.down:
                return "down", 503
            return server.create_token_response()

        return app

    def _save(self, token: Any, request: Any) -> None:
        client = request.client.client_id
        self.made.append((client, time.monotonic()))
        end = time.time() + token["expires_in"]
        self.given[token["access_token"]] = _Token(client, token.get("scope", ""), end)

    def _introspection(self) -> type[IntrospectionEndpoint]:
        outer = self

        class Endpoint(IntrospectionEndpoint):
            CLIENT_AUTH_METHODS = ["client_secret_basic"]

            def query_token(self, token_string: str, _hint: Any) -> _Token | None:
                return outer.given.get(token_string)

            def check_permission(self, _token: Any, client: Any, _request: Any) -> bool:
                return client.client_id == outer.reader

            def introspect_token(self, token: _Token) -> dict[str, Any]:
                return {
                    "active": True,
                    "client_id": token.client_id,
                    "scope": token.scope,
                    "exp": int(token.end),
                }

        return Endpoint

    def _generator(self) -> JWTBearerTokenGenerator:
        outer = self

        class Generator(JWTBearerTokenGenerator):
            def get_jwks(self) -> Any:
                return ECKey.import_key(outer.key)

            def get_audiences(self, client: Any, user: Any, scope: Any) -> list[str]:
                return ["warden"]

        def life(*_: Any) -> int:
            return outer.life

        return Generator("https://tokens.example", "ES256", expires_generator=life)


@contextlib.contextmanager
def running(key: pki.Key, leaf: pki.Leaf, folder: Any) -> Iterator[TokenServer]:
    """Serve tokens signed by `key`, with the certificate `leaf`."""
    made = TokenServer(key)
    context = server_kit.context(folder, [leaf.certificate], leaf.key)
    server = make_server(
        "127.0.0.1", 0, made.app(), threaded=True, ssl_context=context, request_handler=_Quiet
    )
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
