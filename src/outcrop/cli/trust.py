"""``outcrop trust``: the lines that make each client trust this deployment's private CA."""

from __future__ import annotations

import argparse
import json
import shlex

from outcrop.trust.crypto.ca import ServerTls, ca_fingerprint

TLS_DIRECTORY = "tls"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "trust",
        parents=[common],
        help="show how to make clients trust the private CA",
        description="Print, for each client, the line that makes it trust this deployment's private CA. Nothing is "
        "changed on this machine.",
        epilog='example: eval "$(outcrop trust)"   (the output is a shell script whose notes are comments)',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    files = ServerTls.of(args.data.absolute() / TLS_DIRECTORY)
    fingerprint = ca_fingerprint(files)
    path = str(files.ca_certificate)
    if args.json:
        print(
            json.dumps({"ca_certificate": path, "sha256_fingerprint": fingerprint, "environment": _environment(path)})
        )
        return 0
    quoted = shlex.quote(path)
    exports = {name: f"export {name}={shlex.quote(value)}" for name, value in _environment(path).items()}
    print(f"""\
# Outcrop's private CA: {path}
# SHA-256 fingerprint: {fingerprint}

# boto3 and the AWS CLI. Replaces their own list of CAs, so calls to the real AWS fail in this shell.
{exports["AWS_CA_BUNDLE"]}

# Node: AWS SDK for JavaScript, OpenAI and Anthropic SDKs. Adds to Node's list; read once, when node starts.
{exports["NODE_EXTRA_CA_CERTS"]}

# Python's httpx: OpenAI and Anthropic SDKs; also Go. Replaces the default list: every other HTTPS host fails.
{exports["SSL_CERT_FILE"]}

# Python's requests. Replaces the default list.
{exports["REQUESTS_CA_BUNDLE"]}

# To reach other HTTPS hosts too, point those that replace at a file with both lists (Debian, Ubuntu):
#   cat /etc/ssl/certs/ca-certificates.crt {quoted} > both.pem

# curl, for one call:
#   curl --cacert {quoted} https://localhost:8443/

# The whole machine (Debian, Ubuntu). Node, and Python clients that bring their own list, still need a line above:
#   sudo cp {quoted} /usr/local/share/ca-certificates/outcrop.crt && sudo update-ca-certificates""")
    return 0


def _environment(path: str) -> dict[str, str]:
    return dict.fromkeys(("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), path)
