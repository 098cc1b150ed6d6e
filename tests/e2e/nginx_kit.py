"""A real nginx that shows a folder over TLS, on 127.0.0.1, for tests."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import server_kit
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fleet_kit import wait_until
from port_kit import free_ports
from process_kit import child

_CONF = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    default_type application/octet-stream;
    keepalive_requests {requests};
    keepalive_timeout 3600;
    client_header_timeout 3600;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2;
        root {folder}/www;
    }}
}}
"""


def program() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    assert found is not None, "there is no nginx: run `make setup`"
    return found


class Nginx:
    """www: the folder that it shows. requests: how many a connection may make."""

    def __init__(
        self,
        folder: Path,
        certificate: x509.Certificate,
        key: server_kit.Key,
        requests: int = 1000,
    ) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.www = folder / "www"
        self.www.mkdir(parents=True)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / "key.pem").write_bytes(pem)
        (folder / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        user = "user root;" if os.geteuid() == 0 else ""
        conf = _CONF.format(folder=folder, port=self.port, user=user, requests=requests)
        (folder / "nginx.conf").write_text(conf)

    def url(self, name: str, port: int | None = None) -> str:
        """port: of what stands in front of it."""
        return f"https://{server_kit.HOST}:{port or self.port}/{name}"

    def requests(self) -> list[str]:
        """Lines of its log, one for each answer."""
        return (self.folder / "access.log").read_text().splitlines()

    @contextlib.contextmanager
    def running(self) -> Iterator["Nginx"]:
        conf = str(self.folder / "nginx.conf")
        argv = [
            program(),
            "-p",
            str(self.folder),
            "-e",
            str(self.folder / "error.log"),
            "-c",
            conf,
        ]
        with child(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

            def listens() -> bool:
                assert process.poll() is None, (self.folder / "error.log").read_text()
                with socket.socket() as probe:
                    return probe.connect_ex((server_kit.HOST, self.port)) == 0

            wait_until(listens, "nginx")
            yield self
