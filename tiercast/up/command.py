"""The command `tiercast up`."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import click

from .. import __version__
from ..bells import QUEUE
from ..config import load_config, load_sources
from ..config.model import Config
from ..embedded import EmbeddedError, EmbeddedServer
from ..errors import ConfigError, TiercastError
from ..history.lazy import LazyHistory
from ..ledger import open_ledger, prepare
from ..ledger.following import Follower
from ..ledger.reading import Reader
from ..settings import DEFAULT_SOURCE, Settings, load_settings, unknown_variables
from .folder import Folder, FolderError, is_full
from .narrator import Narrator
from .sample import SampleRefused, is_ready, send_sample
from .supervisor import Ending, Signals, Stopped, Supervisor, commands
from .terminal import say

#: Seconds that the receiver may take to be ready, and the sample to be done.
_PATIENCE = 60.0


class PortError(TiercastError):
    """A port is taken."""


@click.command(name="up", short_help="Run everything on this machine.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Where webhooks come in.")
@click.option("--console-port", type=click.IntRange(1, 65535), hidden=True, help="Where the console listens.")
@click.option(
    "--data",
    default=".tiercast",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the ledger's data, secrets, mail and logs.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file. By default tiercast.toml here, else a demo.",
)
@click.option("--no-sample", is_flag=True, help="Send no sample event (only the demo does).")
def up(port: int, console_port: int | None, data: Path, config: Path | None, no_sample: bool) -> None:
    """Run everything on this machine: ledger, receiver, workers.

    Without a configuration file it runs a demo whose actions need no account:
    mail goes into a folder, and a line into the log. Ctrl-C stops it all; what
    it had is there again at the next start. The ledger lets nobody in but you.

    \b
    Examples:
      tiercast up
      tiercast up --port 9090 --config tiercast.toml
    """
    if console_port is not None:
        say("Note: this version has no console, so nothing listens on --console-port.", err=True)
    named = {} if config is None else {"TIERCAST_CONFIG": str(config)}
    for text in unknown_variables(os.environ | named):
        say(f"Note: {text}", err=True)
    if config is not None and not config.is_file():
        raise ConfigError(f"There is no configuration file {config}. Name one that exists, or leave --config out.")
    # What the processes write is for this user only, wherever it lies.
    os.umask(0o077)
    folder = Folder(data)
    with Signals() as signals:
        try:
            status = _up(folder, config, signals, port=port, sample=not no_sample)
        except Stopped:
            say("\nStopped before everything ran.")
            status = 0
        except (OSError, EmbeddedError) as error:
            if is_full(error) or (isinstance(error, EmbeddedError) and folder.is_full()):
                raise FolderError(folder.full()) from None
            raise
    sys.exit(status)


def _up(folder: Folder, config: Path | None, signals: Signals, *, port: int, sample: bool) -> int:
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        # What a killed start left behind, and ended now, may have held the port.
        _check_port(port)
        env = _environment(folder, config)
        settings = load_settings(env)
        loaded = load_config(settings)
        server = None
        if not os.environ.get("TIERCAST_REDIS_URL"):
            say("Starting ...")
            server = stack.enter_context(EmbeddedServer(folder.path / "ledger", private=True))
            env |= {"TIERCAST_REDIS_URL": server.url}
            settings = load_settings(env)
        ledger = open_ledger(settings, role="operator")
        stack.callback(ledger.close)
        history = LazyHistory(settings.history)
        stack.callback(history.close)
        reader = Reader(ledger, prepare(ledger, settings), history.reading)
        narrator = Narrator(Follower(ledger, reader), home=Path.cwd())
        stack.callback(narrator.stop)
        stack.enter_context(folder.environment(_shown(env) | {"TIERCAST_URL": f"http://127.0.0.1:{port}"}))
        supervisor = Supervisor(folder, os.environ | env, narrator.heard, server=server)
        guide = _guide(folder, loaded, narrator, port=port, sample=sample and loaded.path is None)
        threading.Thread(target=guide.run, name="guide", daemon=True).start()
        queues = sorted({QUEUE, *(spec.queue for spec in loaded.actions.values() if spec.queue)})
        ending = supervisor.run(commands(port=port, queues=queues, concurrency=max(2, os.cpu_count() or 2)), signals)
        guide.stop()
        narrator.stop()
        return _conclude(folder, ending)


def _guide(folder: Folder, config: Config, narrator: Narrator, *, port: int, sample: bool) -> _Guide:
    source = DEFAULT_SOURCE if DEFAULT_SOURCE in config.sources else next(iter(config.sources))
    url = f"http://127.0.0.1:{port}/webhooks/{source}"
    return _Guide(folder, config, narrator, url=url, secret=config.sources[source].secrets[0], sample=sample)


def _conclude(folder: Folder, ending: Ending) -> int:
    """Say why everything was stopped; returns the exit status."""
    if ending.full:
        say(f"\n{folder.full()}", err=True)
        return 1
    if ending.process is None:
        say("\nStopped. Your data is kept in " + _relative(folder.path) + ".")
        return 0
    say(f"\nThe process {ending.process} ended with status {ending.status}; everything was stopped.", err=True)
    logs = {"ledger": folder.path / "ledger" / "valkey.log"}
    for line in _tail(logs.get(ending.process) or folder.log(ending.process)):
        say(f"  {ending.process}: {line}", err=True)
    return 1


class _Guide:
    """What the terminal shows from the start to the hint what to try next."""

    def __init__(
        self, folder: Folder, config: Config, narrator: Narrator, *, url: str, secret: str, sample: bool
    ) -> None:
        self._folder, self._config, self._narrator = folder, config, narrator
        self._url, self._secret, self._sample = url, secret, sample
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop waiting."""
        self._stopped.set()

    def run(self) -> None:
        """Wait for the receiver; say where everything is; send the samples; then follow."""
        base = self._url.partition("/webhooks/")[0]
        deadline = time.monotonic() + _PATIENCE
        while not is_ready(base):
            if self._stopped.wait(0.1):
                return
            if time.monotonic() > deadline:
                say(f"The receiver is not ready yet; see {_relative(self._folder.log('web'))}.", err=True)
                deadline += _PATIENCE
        self._introduce()
        self._narrator.start()
        if self._sample:
            try:
                self._send("A sample event, signed, goes in by the front door:")
                self._send("A second one, whose customer has no email:", email=None)
            except SampleRefused as error:
                say(f"The sample was not accepted: {error}", err=True)
        if not self._stopped.is_set():
            self._conclude()

    def _introduce(self) -> None:
        config = self._config.path or "the built-in demo (mail into a folder, a line in the log)"
        say(f"Tiercast {__version__} is up.")
        say(f"  webhooks   {self._url}")
        say(f"  secret     {_relative(self._folder.path / 'webhook-secret')}")
        say(f"  data       {_relative(self._folder.path)}")
        say(f"  actions    {config}")
        say()

    def _send(self, title: str, **changes: None) -> None:
        say(title)
        sent = send_sample(self._url, self._secret, **changes)
        say(f"          202, stored after {sent.ms:.0f} ms as {sent.delivery}")
        told = self._narrator.told(sent.delivery)
        deadline = time.monotonic() + _PATIENCE
        while not told.wait(0.2) and not self._stopped.is_set() and time.monotonic() < deadline:
            pass
        say()

    def _conclude(self) -> None:
        say("It stays up, and says what comes in. In another terminal, try:")
        command = _command()
        say(f"  {command} trigger --email you@example.com")
        say(f"  {command} jobs list")
        if self._config.path is None:
            say("For rules of your own, write a configuration with `tiercast init` and start again.")
        say("Ctrl-C stops everything.")
        say()


def _environment(folder: Folder, config: Path | None) -> dict[str, str]:
    """The environment of the processes, beyond our own."""
    env = {name: value for name, value in os.environ.items() if name.startswith("TIERCAST_") and value}
    if config is not None:
        env["TIERCAST_CONFIG"] = str(config.absolute())
    env.setdefault("TIERCAST_DEMO_DIR", str(folder.path))
    env.setdefault("TIERCAST_SPOOL_DIR", str(folder.path / "spool"))
    env.setdefault("TIERCAST_HISTORY_URL", f"sqlite:///{quote(str(folder.path.absolute()))}/history.db")
    env.setdefault("TIERCAST_HASH_KEY", folder.secret("hash-key"))
    if "TIERCAST_REDIS_URL" not in env:
        env.setdefault("TIERCAST_DURABILITY", "fsync")
    env["TIERCAST_LOG_FORMAT"] = "json"
    if not _has_secrets(load_settings(env)):
        env["TIERCAST_WEBHOOK_SECRETS"] = folder.secret("webhook-secret")
    return env


def _has_secrets(settings: Settings) -> bool:
    """Whether every source has a secret without the one that we would make."""
    try:
        return bool(load_sources(settings))
    except ConfigError:
        return False


def _shown(env: dict[str, str]) -> dict[str, str]:
    """What commands in another shell need; how we log is no part of it."""
    return {name: value for name, value in env.items() if name != "TIERCAST_LOG_FORMAT"}


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortError(f"Port {port} cannot be used: {error.strerror}. Choose another with --port.") from None


def _command() -> str:
    """How this command is called from another shell: by its name where that finds it, else by its path."""
    here = Path(sys.executable).with_name("tiercast")
    found = shutil.which("tiercast")
    return "tiercast" if found and Path(found).samefile(here) else _relative(here)


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-5:]
    except OSError:
        return []
