"""Where a data directory stands in the AWS world: its partition, region and account, fixed when it is made.

They go into every ARN and every signature, so they are chosen once and kept in ``DIR/deployment.json``.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from outcrop.base.arn import Scope, account_id
from outcrop.base.errors import AlreadyExists, NotFound, UserError
from outcrop.base.files import make_private_directory, write_atomic

FILE_NAME = "deployment.json"

# The shapes that Bedrock's own ARN patterns accept, so that every SDK takes our ARNs.
_PARTITION = re.compile(r"aws(-[a-z0-9]+)*", re.ASCII)
_REGION = re.compile(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment's place: checked when made, so a ``Deployment`` in hand is a valid one."""

    partition: str
    region: str
    account: str

    def __post_init__(self) -> None:
        if _PARTITION.fullmatch(self.partition) is None:
            raise UserError(f"{self.partition!r} is not a partition.", "Use aws, aws-us-gov or another aws-… name.")
        if _REGION.fullmatch(self.region) is None:
            raise UserError(f"{self.region!r} is not a region.", "Use a name such as us-east-1.")
        account_id(self.account)

    @property
    def scope(self) -> Scope:
        """The same as the record from which ARNs are built."""
        return Scope(self.partition, self.region, account_id(self.account))

    @classmethod
    def create(
        cls, directory: Path, partition: str = "aws", region: str = "us-east-1", account: str | None = None
    ) -> Deployment:
        """Write ``directory/deployment.json`` (making the directory, 0700); without ``account``, a random one.

        Raises ``AlreadyExists`` when the directory holds a deployment: its ARNs would no longer resolve.
        """
        path = directory / FILE_NAME
        if path.exists():
            raise AlreadyExists(f"{path} exists already.", "Choose an empty directory with --data DIR.")
        deployment = cls(partition, region, account or _random_account())
        make_private_directory(directory)
        write_atomic(path, json.dumps(asdict(deployment), indent=2).encode() + b"\n")
        return deployment

    @classmethod
    def load(cls, directory: Path) -> Deployment:
        """The deployment of ``directory``; ``NotFound`` when there is none, ``UserError`` when its file is damaged."""
        path = directory / FILE_NAME
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise NotFound(
                f"There is no deployment in {directory}.", "Run `outcrop up` first, or name its directory with --data."
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is not JSON: {error}.", "Restore it from a copy.") from None
        fields = {"partition", "region", "account"}
        if (
            not isinstance(record, dict)
            or record.keys() != fields
            or not all(isinstance(value, str) for value in record.values())
        ):
            raise UserError(f"{path} must hold the texts partition, region and account.", "Restore it from a copy.")
        return cls(**record)


def _random_account() -> str:
    return str(random.SystemRandom().randrange(10**11, 10**12))
