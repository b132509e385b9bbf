"""What makes a prompt new to every cache: tokens at its very start that no other round has.

Caches name a chunk by the hash of all tokens up to its end, so a prompt whose first tokens are new has no chunk that
was ever stored. A nonce comes from the run's id and a counter, never from the seed: two runs with the same seed must
not find each other's blocks. A resumed trial counts on, so it gets nonces of its own.
"""

from __future__ import annotations

import hashlib

NONCE_TOKENS = 16
"""As many as vLLM's smallest block; from 64 symbols they carry 96 bits."""


def round_nonce(run_id: str, ordinal: int, resumed: int = 0) -> str:
    """The nonce of a run's `ordinal`-th cold round (32 hex digits); `resumed` counts how often the run was taken up.

    >>> round_nonce("20261124-231501-4fa9c2", 0) == round_nonce("20261124-231501-4fa9c2", 0, resumed=1)
    False
    """
    return hashlib.sha256(f"{run_id}/{resumed}/{ordinal}".encode()).hexdigest()[:32]


def nonce_places(nonce: str, root: int, symbols: int) -> tuple[int, ...]:
    """Places in a pool of `symbols` that begin every prompt of family `root` in the round of `nonce`.

    The first two places count the family up from a start that depends on the nonce, so that families (documents)
    differ from the very first token on as far as the pool reaches; the rest is hashed from nonce and family.
    """
    start = int.from_bytes(hashlib.sha256(f"{nonce}/start".encode()).digest()[:8], "little") + root
    digest = hashlib.sha256(f"{nonce}/{root}".encode()).digest()
    pairs = (digest[i : i + 2] for i in range(0, 2 * (NONCE_TOKENS - 2), 2))
    rest = (int.from_bytes(pair, "little") * symbols >> 16 for pair in pairs)
    return (start % symbols, start // symbols % symbols, *rest)
