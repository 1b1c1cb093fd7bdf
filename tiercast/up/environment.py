"""The environment of a `tiercast up` that runs on this machine, for commands in another shell.

`tiercast up` writes `env` into its data folder (`TIERCAST_DATA`, by default `.tiercast`) while it runs: lines of
NAME=VALUE, mode 0600, because one of them is the webhook secret. The file names a ledger and a configuration, and a
configuration names code. So it counts only where it and its folder are our own and nobody else can write them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import TiercastError
from ..settings import DEFAULT_DATA, VARIABLES

#: The variable that names the data folder, and where it is otherwise.
VARIABLE = "TIERCAST_DATA"
FOLDER = DEFAULT_DATA

#: The file's name in the data folder.
FILE = "env"

_LEDGER = "TIERCAST_REDIS_URL"

#: Bytes of the file that are read at most.
_MAX_BYTES = 100_000


class EnvironmentFileError(TiercastError):
    """A data folder is not our own."""


def data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where `tiercast up` keeps its data, unless it is told otherwise."""
    env = os.environ if environ is None else environ
    return Path(env.get(VARIABLE) or FOLDER)


def local_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read what the running `tiercast up` wrote; empty where none runs.

    Raises:
        EnvironmentFileError: the file or its folder belongs to somebody else, or others can write it.
    """
    path = data_folder(environ) / FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        for what, found in ((path.parent, path.parent.stat()), (path, os.fstat(fd))):
            if found.st_uid != os.geteuid():
                raise EnvironmentFileError(_refusal(what, "belongs to another user"))
            if stat.S_IMODE(found.st_mode) & 0o022:
                raise EnvironmentFileError(_refusal(what, "can be written by other users"))
        text = file.read(_MAX_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, equals, value in pairs if equals and name in VARIABLES}


def _refusal(what: Path, why: str) -> str:
    return (
        f"{what} {why}, so the `tiercast up` that it describes is not used. Run the command in another folder, set "
        f"{VARIABLE} to a data folder of your own, or set {_LEDGER}."
    )


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for commands: the process's own and, beneath it, that of a local `tiercast up`.

    An environment that names another ledger (`TIERCAST_REDIS_URL`) than that one's stands alone.
    """
    env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    named = env.get(_LEDGER)
    try:
        local = local_environment(env)
    except EnvironmentFileError:
        if named:
            return env
        raise
    if named and named != local.get(_LEDGER):
        return env
    return local | env
