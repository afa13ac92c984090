"""Real TLS clients, each in a process of its own, trust the private CA by the line that ``outcrop trust`` prints.

Not covered: Go, Java and browsers; macOS and Windows trust stores.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from outcrop.trust.crypto.ca import ServerTls, ensure_tls

PYTHON_CLIENTS = {
    "httpx": ("SSL_CERT_FILE", "import sys, httpx; httpx.get(sys.argv[1])"),
    "requests": ("REQUESTS_CA_BUNDLE", "import sys, requests; requests.get(sys.argv[1])"),
    "boto3": (
        "AWS_CA_BUNDLE",
        "import sys, boto3; boto3.client('bedrock', endpoint_url=sys.argv[1], region_name='eu-west-1')"
        ".list_foundation_models()",
    ),
    "anthropic": (
        "SSL_CERT_FILE",
        "import sys, anthropic; anthropic.Anthropic(base_url=sys.argv[1], api_key='k', max_retries=0)"
        ".get('/x', cast_to=object)",
    ),
    "openai": (
        "SSL_CERT_FILE",
        "import sys, openai; openai.OpenAI(base_url=sys.argv[1], api_key='k', max_retries=0).get('/x', cast_to=object)",
    ),
}
NODE = "fetch(process.argv[1]).then(r => process.exit(r.ok ? 0 : 1), e => { console.error(e.cause); process.exit(1) })"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate hangs up; that is what the tests look at."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return ensure_tls(tmp_path_factory.mktemp("data") / "tls")


@pytest.fixture(scope="module")
def port(tls: ServerTls) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def succeeds(*command: str | Path, **environment: str) -> bool:
    inherited = {name: value for name, value in os.environ.items() if "CERT" not in name and "CA_BUNDLE" not in name}
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1", "NO_PROXY": "*"}
    ran = subprocess.run(
        command,
        env={**inherited, **credentials, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(ran.stdout, ran.stderr)
    return ran.returncode == 0


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_python_clients_trust_the_ca_when_told_and_only_then(client: str, tls: ServerTls, port: int) -> None:
    variable, program = PYTHON_CLIENTS[client]
    command = (sys.executable, "-c", program, f"https://localhost:{port}")
    assert succeeds(*command, **{variable: str(tls.ca_certificate)})
    assert not succeeds(*command)


def test_node_trusts_the_ca_when_told_and_only_then(tls: ServerTls, port: int) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = (node, "-e", NODE, f"https://localhost:{port}")
    assert succeeds(*command, NODE_EXTRA_CA_CERTS=str(tls.ca_certificate))
    assert not succeeds(*command)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_curl_trusts_the_ca_when_told_and_only_then(tls: ServerTls, port: int, host: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    assert succeeds(curl, "-sS", "--cacert", tls.ca_certificate, f"https://{host}:{port}/")
    assert not succeeds(curl, "-sS", f"https://{host}:{port}/")


def test_openssl_finds_nothing_to_complain_about_in_strict_mode(tls: ServerTls) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    strict = (
        openssl,
        "verify",
        "-x509_strict",
        "-check_ss_sig",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "localhost",
    )
    assert succeeds(*strict, "-CAfile", tls.ca_certificate, tls.certificate)
    assert succeeds(
        openssl, "verify", "-x509_strict", "-check_ss_sig", "-CAfile", tls.ca_certificate, tls.ca_certificate
    )
    assert not succeeds(openssl, "verify", tls.certificate)
