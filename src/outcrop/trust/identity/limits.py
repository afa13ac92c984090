"""The quotas of IAM and Organizations with their default values.

Sources: IAM User Guide, "IAM and AWS STS quotas"; Organizations User Guide, "Quotas for AWS Organizations". Policy
sizes count characters other than white space.
"""

from __future__ import annotations

USERS = 5000
GROUPS = 300
ROLES = 1000
POLICIES = 1500
GROUPS_PER_USER = 10
ACCESS_KEYS_PER_USER = 2
ATTACHED_POLICIES = 10  # to each user, group and role
POLICY_VERSIONS = 5
TAGS = 50
OIDC_PROVIDERS = 100
CLIENT_IDS_PER_PROVIDER = 100
THUMBPRINTS_PER_PROVIDER = 5
SERVICE_CREDENTIALS_PER_USER = 2  # for each service
POLICY_CHARACTERS = 6144
TRUST_POLICY_CHARACTERS = 2048
INLINE_CHARACTERS = {"user": 2048, "group": 5120, "role": 10_240}  # all inline policies of one entity together
CONTROL_POLICY_CHARACTERS = 5120
CONTROL_POLICIES = 1000
CONTROL_POLICIES_PER_TARGET = 5
UNITS = 1000
UNIT_DEPTH = 5
SESSION_S_MIN, SESSION_S_MAX = 3600, 43_200
CREDENTIAL_DAYS_MAX = 36_600
JWKS_BYTES_MAX = 65_536
