"""The app for a WSGI server: `receiver.wsgi:app`. It is made when first asked for, in the serving process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from flask import Flask

from tiercast.bells import publisher
from tiercast.config import load_sources
from tiercast.ledger import open_ledger
from tiercast.logs import set_up_logs
from tiercast.ringer import BellRinger
from tiercast.settings import Settings, load_settings

from .app import create_app
from .checked import CheckedLedger
from .connections import PER_ADDRESS, READS, Sweeper
from .edge import edge_of
from .refusals import Refusals
from .serve import STOP_TIMEOUT
from .store import Store

_making = threading.Lock()


def make_app() -> Flask:
    """Make the app from the environment and the configuration file.

    Raises:
        SettingsError, ConfigError: as they say.
    """
    settings = load_settings()
    set_up_logs(settings, process="web")
    sources = load_sources(settings)
    refusals = Refusals()
    per_address = PER_ADDRESS if settings.trusted_proxies == 0 else None
    Sweeper(READS, per_address=per_address, each=refusals.flush).start()
    bells = BellRinger(publisher(settings))
    store = _with_spool(CheckedLedger(open_ledger(settings, role="receiver"), settings), settings, bells)
    return create_app(settings, sources, store, bells, edge_of(settings), refusals)


def _with_spool(ledger: Store, settings: Settings, bells: BellRinger) -> Store:
    """Put the spool behind the ledger where one is configured."""
    if settings.spool_dir is None:
        return ledger
    # Imported here: it needs `fcntl`, which not every platform has.
    from .spool import Breaker, Mover, SpoolFolder, SpoolingStore

    folder = SpoolFolder(settings.spool_dir, max_bytes=settings.spool_max)
    breaker = Breaker()
    Mover(ledger, folder, breaker, bells).start()
    return SpoolingStore(ledger, folder, breaker)


def __getattr__(name: str) -> Flask:
    if name not in {"app", "application"}:
        raise AttributeError(name)
    with _making:
        if "app" not in globals():
            made = make_app()
            globals().update(app=made, application=made)
            if parent := multiprocessing.parent_process():
                # Not os.getppid(): the parent may have died while this process was still starting.
                _leave_with(parent.pid)
    found: Flask = globals()["app"]
    return found


def _leave_with(parent: int | None) -> None:
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
