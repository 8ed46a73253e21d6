"""Which people are kept for validation and which for learning: decided by a hash, so that every tool decides alike."""

from __future__ import annotations

import hashlib

HELD_OUT_SHARE = 0.12


def held_out(identity: str, file: str) -> bool:
    """Whether a photograph is kept for validation.

    Parameters
    ----------
    identity : the person of the manifest; "" where nobody knows, then each photograph is its own person
    file : the path of the manifest
    """
    digest = hashlib.sha256((identity or file).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def gives_offsets(identity: str) -> bool:
    """Whether a delineated person belongs to the half that gives offsets and labels; the other half only judges.

    Parameters
    ----------
    identity : as `delineated_189.npz` has it, "london/003"
    """
    return hashlib.sha256(identity.encode()).digest()[0] % 2 == 1
