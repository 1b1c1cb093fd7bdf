"""Who changes something, and from where."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from typing import Literal

#: Where a request can come from.
Origin = Literal["cli", "console"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something.

    Args:
        name: the user.
        origin: which side of Tiercast they use.
        address: the host that they are on, or the address that they come from.

    >>> str(Actor("ann", "cli", "ops1"))
    'cli:ann@ops1'
    """

    name: str
    origin: Origin
    address: str

    def __str__(self) -> str:
        return f"{self.origin}:{self.name}@{self.address}"


def local_user() -> Actor:
    """Who calls a command, as the system knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    return Actor(user, "cli", socket.gethostname())
