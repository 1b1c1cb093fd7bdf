"""The job's key in the forms that vendors take as an idempotency key: the same for every attempt of a job.

They are made of the key alone, so nothing has to be stored, and a repeat after a crash carries the same one.
"""

from __future__ import annotations

import hashlib
import string
import uuid

#: Our namespace for UUIDs of version 5. Another one would make every vendor take old jobs for new ones.
_NAMESPACE = uuid.UUID("6f1f9b0e-3c0a-5d7e-9f3b-2a4c1d5e7f80")

#: Crockford's alphabet, in which ULIDs are written (https://github.com/ulid/spec).
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

#: What a key may hold for every vendor and header.
_PLAIN = frozenset(string.ascii_letters + string.digits + "._:-")

#: How many hexadecimal digits of the digest stand in a key that was cut.
_DIGEST = 24

_LONGEST_KEY = 100

#: 48 bits of milliseconds.
_MOST_MILLISECONDS = (1 << 48) - 1


def uuid_key(key: str) -> str:
    """A UUID of version 5 (RFC 9562) made from a job's key.

    >>> uuid_key("voucherify:ev_1:welcome")
    'ff4ccd4b-f86f-5e08-8e80-f92ee99ce8ea'
    """
    return str(uuid.uuid5(_NAMESPACE, key.encode("utf-8", "replace").decode()))


def ulid_key(key: str, milliseconds: int) -> str:
    """A ULID made from a job's key and a Unix time, such as the event's.

    >>> ulid_key("voucherify:ev_1:welcome", 0)[:10]
    '0000000000'
    """
    time = min(max(0, milliseconds), _MOST_MILLISECONDS)
    digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()[:10]
    number = (time << 80) | int.from_bytes(digest)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def short_key(key: str, longest: int = _LONGEST_KEY) -> str:
    """The key as text of letters, digits and `._:-`, at most `longest` characters (32 or more).

    A key that fits stays as it is; of every other the beginning stays, and a digest of the whole follows.

    >>> short_key("voucherify:ev_1:welcome")
    'voucherify:ev_1:welcome'
    """
    if len(key) <= longest and _PLAIN.issuperset(key):
        return key
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:_DIGEST]
    begins = "".join(sign if sign in _PLAIN else "-" for sign in key[: max(0, longest - _DIGEST - 1)])
    return f"{begins}-{digest}"
