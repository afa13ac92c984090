"""The only room that imports hash, signature and certificate libraries, so that a review of them is a review of this.

It offers hashes and message authentication codes (``hashes``), random tokens (``tokens``) and a private certificate
authority with its server certificate (``ca``). Encryption at rest and key stores come in a later issue.
"""

from outcrop.trust.crypto.hashes import (
    EMPTY_SHA256_HEX,
    constant_time_equal,
    hmac_sha256,
    hmac_sha256_hex,
    sha256_hex,
    sigv4_signing_key,
)
from outcrop.trust.crypto.tokens import (
    random_access_key_id,
    random_id,
    random_lower_id,
    random_secret_key,
    random_token,
)

__all__ = [
    "EMPTY_SHA256_HEX",
    "constant_time_equal",
    "hmac_sha256",
    "hmac_sha256_hex",
    "random_access_key_id",
    "random_id",
    "random_lower_id",
    "random_secret_key",
    "random_token",
    "sha256_hex",
    "sigv4_signing_key",
]
