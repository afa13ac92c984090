"""``outcrop up``: the service in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING

from outcrop.base.clock import SystemClock
from outcrop.base.files import exclusive_lock, make_private_directory

if TYPE_CHECKING:
    from outcrop.service.assemble import Service
    from outcrop.service.config import ServiceConfig
    from outcrop.service.server import Listening

PORT_MAX = 65_535

log = logging.getLogger("outcrop.up")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "up",
        parents=[common],
        help="start the service in the foreground",
        description="Start the service on the loopback interface and say how to reach it. The first start makes an "
        "account with a root key, whose secret is shown this once. Ctrl-C stops it.",
        epilog="example: outcrop up --data ./data --port 8080 --https-port 8443",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="HTTP port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--https-port", type=_port, default=8443, help="HTTPS port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--no-http", action="store_true", help="offer HTTPS only")
    parser.add_argument(
        "--profile",
        choices=("dev", "standard", "strict", "airgap"),
        help="what a new deployment is held to (default: dev); afterwards, accepts a change in DIR/outcrop.toml",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further host name that requests may be sent to and that the certificate carries; repeatable",
    )
    parser.add_argument("--region", help="the region of a new deployment (default: us-east-1); fixed afterwards")
    parser.add_argument(
        "--partition",
        help="the partition of a new deployment: aws, aws-us-gov, aws-iso, aws-eusc or one of your own that begins "
        "with aws- (default: aws); fixed afterwards",
    )
    parser.add_argument("--account", help="the first account of a new deployment, twelve digits (default: random)")
    parser.add_argument("--verbose", action="store_true", help="log each request that went wrong, and why")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {PORT_MAX}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from outcrop.service.config import ServiceConfig  # noqa: PLC0415 - heavy: only this verb needs a server
    from outcrop.service.settings import choose_profile  # noqa: PLC0415

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if args.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if args.profile is not None:
        choose_profile(args.data, args.profile)
    config = ServiceConfig(
        data=args.data,
        host=args.host,
        http_port=None if args.no_http else args.port,
        https_port=args.https_port,
        names=tuple(args.name),
        new_profile=args.profile is not None,
    )
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        asyncio.run(_serve(config, args))
    else:
        uvloop.run(_serve(config, args))
    return 0


async def _serve(config: ServiceConfig, args: argparse.Namespace) -> None:
    from outcrop.service import assemble, server  # noqa: PLC0415
    from outcrop.service.hosting import DEFAULT_MODEL_ID  # noqa: PLC0415
    from outcrop.trust.crypto.ca import ensure_tls  # noqa: PLC0415

    make_private_directory(config.data)
    with exclusive_lock(config.data / assemble.LOCK_FILE), contextlib.ExitStack() as sockets:
        plain = None
        if config.http_port is not None:
            plain = sockets.enter_context(server.bind(config.host, config.http_port))
        secure = sockets.enter_context(server.bind(config.host, config.https_port))
        _hold_to_profile(config)  # before anything is made: a first key would be shown to nobody
        deployment = assemble.open_deployment(config, args.region, args.partition, args.account)
        service = assemble.assemble(config, deployment)
        _advise(service, config)
        names = [config.host, *config.names]
        tls = ensure_tls(config.data / assemble.TLS_FOLDER, names, SystemClock())

        async def ready(listening: Listening) -> None:
            await service.host.get(DEFAULT_MODEL_ID)
            report = _report(service, config, listening)
            print(json.dumps(report) if args.json else _text(report), flush=True)

        try:
            await server.serve(
                service.app,
                host=config.host,
                plain=plain,
                secure=secure,
                tls=tls,
                ready=ready,
                stop=server.stop_on_signals(),
                halt=service.host.close,
            )
        finally:
            await service.close()


def _hold_to_profile(config: ServiceConfig) -> None:
    """Do what the profile asks of this process, and refuse to go on where something it requires does not hold."""
    from outcrop.service import profiles  # noqa: PLC0415
    from outcrop.service.settings import Settings  # noqa: PLC0415

    situation = profiles.Situation(Settings.load(config.data), config.data, config)
    profiles.require(profiles.examine(situation, enforcing=True))


def _advise(service: Service, config: ServiceConfig) -> None:
    """Say what the profile advises and does not find."""
    from outcrop.service import profiles  # noqa: PLC0415

    root_keys = tuple(
        key.access_key_id for key in service.identity.list_keys() if key.active and key.arn.resource == "root"
    )
    situation = profiles.Situation(service.trust.settings, config.data, config, root_keys)
    for finding in profiles.examine(situation, enforcing=False):
        if not finding.ok:
            log.warning("%s: %s %s", finding.row.id, finding.seen, finding.remedy)


def _report(service: Service, config: ServiceConfig, listening: Listening) -> dict[str, object]:
    keys = [key.access_key_id for key in service.identity.list_keys(service.deployment.scope.account) if key.active]
    return {
        "endpoint": listening.http_url or listening.https_url,
        "https_endpoint": listening.https_url,
        "region": service.deployment.region,
        "account": service.deployment.account,
        "data": str(config.data),
        "profile": service.trust.settings.profile,
        "access_key_id": keys[0] if keys else None,
        "secret_access_key": service.first_key.secret_access_key if service.first_key else None,
        "models": [info.model_id for info in service.host.models()],
    }


def _endpoints(report: dict[str, object]) -> str:
    return " and ".join(dict.fromkeys(str(report[name]) for name in ("endpoint", "https_endpoint")))


def _text(report: dict[str, object]) -> str:
    exports = {
        "AWS_ENDPOINT_URL": report["endpoint"],
        "AWS_REGION": report["region"],
        "AWS_DEFAULT_REGION": report["region"],  # boto3 and the AWS CLI read only this one
        "AWS_ACCESS_KEY_ID": report["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": report["secret_access_key"],
    }
    lines = [
        f"Outcrop is up: {_endpoints(report)} (data in {report['data']}, profile {report['profile']})",
        "",
        *(f"export {name}={value}" for name, value in exports.items() if value),
        "",
    ]
    if report["secret_access_key"]:
        lines.append("The secret is shown this once. More keys: outcrop key create")
    else:
        lines.append("Secrets are shown only when made. A new key: outcrop key create")
    models = report["models"]
    assert isinstance(models, list)
    lines += [
        "TLS clients trust the private CA by the lines of: outcrop trust",
        "An API key for OpenAI and Anthropic clients: outcrop key bearer",
        "",
        "models: " + ", ".join(models),
    ]
    return "\n".join(lines)
