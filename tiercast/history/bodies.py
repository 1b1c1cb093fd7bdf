"""Bodies as the history keeps them: compressed with Zstandard and a dictionary of what Voucherify's events share.

The first byte of a stored body says how to read the rest: 0 as it is, 1 with the first dictionary. A dictionary never
changes; another one would get the next number, and old bodies stay readable.
"""

from __future__ import annotations

import sys
import threading
from functools import cached_property
from importlib.resources import files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Level of compression. 6 takes three times as long for a tenth less.
_LEVEL = 3

#: Our own dictionary: sample events with invented people (`bench/dictionary.py` made it).
_DICTIONARY = "events-1.dict"

_PLAIN, _FIRST = b"\x00", b"\x01"


class Bodies:
    """Compresses and restores bodies. All threads of a process can share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def pack(self, body: bytes) -> bytes:
        """As it is stored."""
        with self._lock:
            packed = self._compressor.compress(body, zstd.ZstdCompressor.FLUSH_FRAME)
        return _FIRST + packed if len(packed) < len(body) else _PLAIN + body

    def unpack(self, stored: bytes) -> bytes:
        """The body's exact bytes.

        Raises:
            ValueError: it was stored by a later version of Tiercast, or it is damaged.
        """
        how, rest = stored[:1], stored[1:]
        if how == _PLAIN:
            return rest
        if how != _FIRST:
            raise ValueError("this body was stored by a later version of Tiercast")
        try:
            return zstd.decompress(rest, zstd_dict=self._dictionary)
        except zstd.ZstdError as error:
            raise ValueError(f"this body is damaged: {error}") from None

    @cached_property
    def _dictionary(self) -> zstd.ZstdDict:
        return zstd.ZstdDict((files(__package__) / _DICTIONARY).read_bytes(), is_raw=True)

    @cached_property
    def _compressor(self) -> zstd.ZstdCompressor:
        return zstd.ZstdCompressor(level=_LEVEL, zstd_dict=self._dictionary.as_digested_dict)
