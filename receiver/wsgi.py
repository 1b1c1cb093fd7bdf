"""The app for a WSGI server: `receiver.wsgi:app`. It is made when first asked for, in the serving process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Flask

from tiercast.bells import publisher
from tiercast.config import load_sources
from tiercast.ledger import Ledger, open_ledger, prepare
from tiercast.logs import set_up_logs
from tiercast.ringer import BellRinger
from tiercast.settings import Settings, load_settings

from .app import create_app
from .commit import Triple
from .enqueue import Recorded
from .serve import STOP_TIMEOUT

_making = threading.Lock()


class CheckedLedger:
    """The ledger, checked before its first use: the receiver may start while the ledger is away."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._checked = False

    def record(self, deliveries: Sequence[Triple]) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or raise a LedgerError."""
        self._check()
        return self._ledger.record(deliveries)

    def ping(self) -> None:
        """Return soon if the ledger could store now, else raise a LedgerError."""
        self._check()
        self._ledger.ping()

    def _check(self) -> None:
        if not self._checked:
            prepare(self._ledger, self._settings)
            self._checked = True


def make_app() -> Flask:
    """Make the app from the environment and the configuration file.

    Raises:
        SettingsError, ConfigError: as they say.
    """
    settings = load_settings()
    set_up_logs(settings, process="web")
    sources = load_sources(settings)
    store = CheckedLedger(open_ledger(settings, role="receiver"), settings)
    return create_app(settings, sources, store, BellRinger(publisher(settings)))


def __getattr__(name: str) -> Flask:
    if name not in {"app", "application"}:
        raise AttributeError(name)
    with _making:
        if "app" not in globals():
            made = make_app()
            globals().update(app=made, application=made)
            if multiprocessing.parent_process() is not None:
                _leave_with(os.getppid())
    found: Flask = globals()["app"]
    return found


def _leave_with(parent: int) -> None:
    """Stop this process within a second of its parent's death, so that a killed server leaves no port taken."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_TIMEOUT)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if TYPE_CHECKING:
    app: Flask
    application: Flask
