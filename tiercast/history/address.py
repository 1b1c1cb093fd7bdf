"""Where the history is: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`, read and checked.

Settings need this in every process, the receiver too; so it loads no database library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

#: What a message gives as an example.
EXAMPLE = "Examples: sqlite:////var/lib/tiercast/history.db, postgresql://tiercast:password@db.internal/tiercast"


class AddressError(ValueError):
    """An address cannot be used; the message says why, as a sentence whose subject is its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAddress:
    """A checked address.

    Args:
        dialect: which database.
        url: the address as the database library takes it. It may hold a password.
        path: of an SQLite file; None for PostgreSQL.
        place: file, or host, port and database, for messages; without a password.
    """

    dialect: Literal["sqlite", "postgresql"]
    url: str = field(repr=False)
    path: Path | None
    place: str

    @classmethod
    def read(cls, text: str) -> HistoryAddress:
        """Check an address. Three slashes before a relative path of an SQLite file, four before an absolute one.

        Raises:
            AddressError: it cannot be used; the message does not repeat it.
        """
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise AddressError("does not start with sqlite:/// or postgresql://")
        if scheme == "sqlite":
            return cls._sqlite(rest)
        # Some hosts write the old name into the address that they give.
        if scheme in {"postgresql", "postgres"}:
            return cls._postgresql(rest)
        raise AddressError("names a database that Tiercast does not know; it can be sqlite:/// or postgresql://")

    @classmethod
    def _sqlite(cls, rest: str) -> HistoryAddress:
        path, options, _ = rest.partition("?")
        if options:
            raise AddressError("has options behind the file's path; an SQLite history takes none")
        if not path.startswith("/"):
            raise AddressError("has two slashes before the file's path; write three (relative) or four (absolute)")
        path = unquote(path[1:])
        if not path or path == ":memory:" or path.endswith("/"):
            raise AddressError("names no file; a history has to outlive its process")
        return cls(dialect="sqlite", url=path, path=Path(path), place=path)

    @classmethod
    def _postgresql(cls, rest: str) -> HistoryAddress:
        parts = urlsplit(f"postgresql://{rest}")
        try:
            port = parts.port
        except ValueError:
            raise AddressError("has a port that is no number") from None
        name = unquote(parts.path.removeprefix("/"))
        if not name or "/" in name:
            raise AddressError("names no database behind its host")
        # A folder of a socket stands in the options: postgresql:///tiercast?host=/run/postgresql
        host = parts.hostname or "localhost"
        place = f"{host}:{port}/{name}" if port else f"{host}/{name}"
        return cls(dialect="postgresql", url=f"postgresql+psycopg://{rest}", path=None, place=place)
