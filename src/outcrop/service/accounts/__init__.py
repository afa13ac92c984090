"""What an account decides for itself: whether and where its invocations are logged, and whether anything is kept.

``Accounts`` has them all over one table: ``logging`` and ``retention``. Every request reads them, so what was read is
kept until the database changes. Not covered: settings by Region or by project; a deployment is one Region.
"""

from outcrop.service.accounts.logging import LogBucket, LoggingConfigurations, LoggingSettings
from outcrop.service.accounts.retention import DataRetention, RetentionMode
from outcrop.service.accounts.settings import Accounts, AccountSettings
from outcrop.service.accounts.stored import Setting

__all__ = [
    "AccountSettings",
    "Accounts",
    "DataRetention",
    "LogBucket",
    "LoggingConfigurations",
    "LoggingSettings",
    "RetentionMode",
    "Setting",
]
