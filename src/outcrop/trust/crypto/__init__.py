"""The only room that imports hash, signature and certificate libraries, so that a review of them is a review of this.

Re-exported here are hashes and message authentication codes (``hashes``) and random tokens (``tokens``), which import
the standard library only. The rest is imported by its module: ``aead`` seals small messages and ``objects`` files of
any size, under keys that ``keystores`` makes and wraps; ``kdf`` derives keys, ``signatures`` signs, ``jwt`` verifies
OpenID Connect tokens, ``ca`` is a private certificate authority, ``secret`` holds what must not show, and ``module``
says which cryptographic module all of it runs in. docs/decisions/0008-sealing.md says why the formats are as they are.

Not covered: the keys and plaintexts in this process's memory, which root can read and Python cannot wipe.
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
