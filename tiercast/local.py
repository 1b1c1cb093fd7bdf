"""The environment of a `tiercast up` that runs on this machine, for commands in another shell.

`tiercast up` writes `env` into its data folder (`TIERCAST_DATA`, by default `.tiercast`) while it runs: lines of
NAME=VALUE, mode 0600, because one of them is the webhook secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: The variable that names the data folder, and where it is otherwise.
VARIABLE = "TIERCAST_DATA"
FOLDER = ".tiercast"

#: The file's name in the data folder.
FILE = "env"

#: Only our own variables are taken from the file.
_PREFIX = "TIERCAST_"

_LEDGER = "TIERCAST_REDIS_URL"


def data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where `tiercast up` keeps its data, unless it is told otherwise."""
    env = os.environ if environ is None else environ
    return Path(env.get(VARIABLE) or FOLDER)


def local_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read what the running `tiercast up` wrote; empty where none runs."""
    try:
        text = (data_folder(environ) / FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, equals, value in pairs if equals and name.startswith(_PREFIX)}


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for commands: the process's own and, beneath it, that of a local `tiercast up`.

    An environment that names another ledger (`TIERCAST_REDIS_URL`) than that one's stands alone.
    """
    env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    local = local_environment(env)
    named = env.get(_LEDGER)
    if named and named != local.get(_LEDGER):
        return env
    return local | env
