"""Puts a service together from a data directory: the one place where the two halves of the house meet."""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound, UserError
from outcrop.models.registry import ModelRegistry
from outcrop.service.access import Access, Denials
from outcrop.service.access.resources import Resources
from outcrop.service.accounts import Accounts
from outcrop.service.admission import Gate, QuotaStore
from outcrop.service.app import App
from outcrop.service.auditing import Auditor, open_audit
from outcrop.service.config import ServiceConfig
from outcrop.service.hosting import EngineFactory, ModelHost, paged_engines
from outcrop.service.invocations import Delivery, Invocations
from outcrop.service.objects.sealed import OBJECTS_FOLDER, SealedObjects
from outcrop.service.operations.base import Context
from outcrop.service.pipeline import Pipeline
from outcrop.service.profiles.table import asks
from outcrop.service.routing import Routes
from outcrop.service.sealing import VaultedFiles
from outcrop.service.trusted import Trust
from outcrop.trust.audit.keeper import AuditKeeper
from outcrop.trust.identity import Authenticator, IdentityStore, IssuedKey
from outcrop.trust.identity.replay import ReplayCache
from outcrop.trust.identity.uses import UseWriter
from outcrop.trust.keys import KeyReaper

MODELS_FOLDER = "models"
TLS_FOLDER = "tls"
LOCK_FILE = "service.lock"

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Host names under which a service on this machine may be addressed without being told so."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service ready to serve, with what an operator is told about it."""

    app: App
    host: ModelHost
    deployment: Deployment
    trust: Trust
    audit: AuditKeeper
    invocations: Invocations
    reaper: KeyReaper
    uses: UseWriter
    first_key: IssuedKey | None
    """The root key made at the first start: the only time its secret is in hand."""

    @property
    def identity(self) -> IdentityStore:
        return self.trust.identity

    async def close(self) -> None:
        await self.host.close()
        self.reaper.close()
        self.uses.close()
        self.invocations.close()  # what it loses goes into the trail
        self.audit.close()
        self.trust.close()


def open_deployment(
    config: ServiceConfig, region: str | None = None, partition: str | None = None, account: str | None = None
) -> Deployment:
    """The deployment in the data directory, made now if there is none; ``UserError`` where it is a different one."""
    try:
        deployment = Deployment.load(config.data)
    except NotFound:
        return Deployment.create(config.data, partition or "aws", region or "us-east-1", account)
    for name, wanted in (("partition", partition), ("region", region), ("account", account)):
        present = getattr(deployment, name)
        if wanted is not None and wanted != present:
            raise UserError(
                f"{config.data} was made for {name} {present}, not {wanted}.",
                f"Leave --{name} out, or choose another --data directory.",
            )
    return deployment


def assemble(
    config: ServiceConfig, deployment: Deployment, *, clock: Clock | None = None, engines: EngineFactory | None = None
) -> Service:
    """Everything but sockets. ``engines`` replaces the computing engines, for tests and benchmarks."""
    clock = clock or SystemClock()
    trust = Trust.open(config.data, deployment, clock, new_profile=config.new_profile)
    first_key = trust.identity.ensure_account(deployment.partition, deployment.scope.account)
    registry = ModelRegistry(config.data / MODELS_FOLDER, sealed_files=VaultedFiles(trust.vault, deployment.scope))
    accounts = Accounts(trust.database, clock)
    host = ModelHost(
        registry, deployment.scope, engines or paged_engines(config.engine), clock, keeps=accounts.retention.keeps
    )
    authenticator = Authenticator(
        trust.identity,
        deployment.region,
        clock,
        max_skew_s=config.limits.max_clock_skew_s,
        hosts=frozenset({*LOCAL_NAMES, config.host, *config.names}),
        sessions=trust.sessions,
        replay=ReplayCache(clock.now()) if asks(trust.settings.profile, "replay-cache") else None,
    )
    routes = Routes()
    denials = Denials(config.data)
    access = Access(
        trust.identity,
        Resources(host, clock, trust.identity, trust.keys),
        clock,
        denials,
        trust.identity.organisation.organisation_path,
    )
    audit = open_audit(config.data, deployment, trust, clock)
    auditor = Auditor(audit.trail, deployment.scope, clock)
    objects = SealedObjects(trust.keys, trust.vault, config.data / OBJECTS_FOLDER, clock)
    objects.sweep()
    delivery = Delivery(objects, accounts.retention, clock, auditor.tell_delivery)
    invocations = Invocations(accounts, delivery, clock, deployment.region)
    gate = Gate(QuotaStore(trust.database), clock, config.gate)
    context = Context(host, clock, trust, audit, gate, denials, accounts, objects, invocations)
    pipeline = Pipeline(routes, authenticator, access, auditor, context)
    app = App(pipeline, clock, config.limits)
    reaper, uses = KeyReaper(trust.keys, clock), UseWriter(trust.identity.uses)
    return Service(app, host, deployment, trust, audit, invocations, reaper, uses, first_key)
