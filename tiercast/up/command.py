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

import click
import httpx

from .. import __version__
from ..bells import QUEUE
from ..config import load_config, load_sources
from ..config.model import Config
from ..embedded import EmbeddedServer
from ..errors import ConfigError, TiercastError
from ..ledger import open_ledger, prepare
from ..ledger.reading import Reader
from ..settings import DEFAULT_SOURCE, Settings, load_settings
from .folder import Folder
from .narrator import Narrator
from .processes import Processes, commands
from .sample import is_ready, send_sample

#: Seconds that the receiver may take to be ready, and the sample to be done.
_PATIENCE = 60.0


class PortError(TiercastError):
    """A port is taken."""


@click.command(name="up", short_help="Run everything on this machine.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Where webhooks come in.")
@click.option(
    "--console-port", default=8081, show_default=True, type=click.IntRange(1, 65535), help="Where the console listens."
)
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
def up(port: int, console_port: int, data: Path, config: Path | None, no_sample: bool) -> None:
    """Run everything on this machine: ledger, receiver, workers.

    Without a configuration file it runs a demo whose actions need no account:
    mail goes into a folder, and a line into the log. Ctrl-C stops it all; what
    it had is there again at the next start.

    \b
    Examples:
      tiercast up
      tiercast up --port 9090 --config tiercast.toml
    """
    del console_port  # The console is not part of this version; the flag is fixed for those who script it.
    if config is not None and not config.is_file():
        raise ConfigError(f"There is no configuration file {config}. Name one that exists, or leave --config out.")
    _check_port(port)
    with ExitStack() as stack:
        folder = Folder(data)
        stack.enter_context(folder.locked())
        env = _environment(folder, config)
        settings = load_settings(env)
        loaded = load_config(settings)
        if not os.environ.get("TIERCAST_REDIS_URL"):
            click.echo("Starting ...")
            server = stack.enter_context(EmbeddedServer(folder.path / "ledger"))
            env |= {"TIERCAST_REDIS_URL": server.url}
            settings = load_settings(env)
        ledger = open_ledger(settings, role="operator")
        stack.callback(ledger.client.close)
        narrator = Narrator(Reader(ledger, prepare(ledger, settings)), home=Path.cwd())
        stack.callback(narrator.stop)
        stack.enter_context(folder.environment(_shown(env) | {"TIERCAST_URL": f"http://127.0.0.1:{port}"}))
        status = _run(folder, env, loaded, narrator, port=port, sample=loaded.path is None and not no_sample)
    sys.exit(status)


def _run(folder: Folder, env: dict[str, str], config: Config, narrator: Narrator, *, port: int, sample: bool) -> int:
    queues = sorted({QUEUE, *(spec.queue for spec in config.actions.values() if spec.queue)})
    processes = Processes(folder, os.environ | env, narrator.heard)
    for name, command in commands(port=port, queues=queues, concurrency=max(2, os.cpu_count() or 2)).items():
        processes.add(name, command)
    source = DEFAULT_SOURCE if DEFAULT_SOURCE in config.sources else next(iter(config.sources))
    url = f"http://127.0.0.1:{port}/webhooks/{source}"
    guide = _Guide(folder, config, narrator, url=url, secret=config.sources[source].secrets[0], sample=sample)
    # honcho forks its processes when it starts, and a fork must find no other thread: the guide starts a bit later.
    threading.Timer(0.5, guide.run).start()
    status = processes.run()
    guide.stop()
    narrator.stop()
    if status in (130, 143):
        click.echo("\nStopped. Your data is kept in " + _relative(folder.path) + ".")
        return 0
    click.echo(f"\nA process ended with status {status}; everything was stopped. Its last lines:", err=True)
    for name in ("web", "worker"):
        for line in _tail(folder.log(name)):
            click.echo(f"  {name}: {line}", err=True)
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
                click.echo(f"The receiver is not ready yet; see {_relative(self._folder.log('web'))}.", err=True)
                deadline += _PATIENCE
        self._introduce()
        self._narrator.start()
        if self._sample:
            try:
                self._send("A sample event, signed, goes in by the front door:")
                self._send("A second one, whose customer has no email:", email=None)
            except httpx.HTTPError as error:
                click.echo(f"The sample was not accepted: {error}", err=True)
        if not self._stopped.is_set():
            self._conclude()

    def _introduce(self) -> None:
        config = self._config.path or "the built-in demo (mail into a folder, a line in the log)"
        click.echo(f"Tiercast {__version__} is up.")
        click.echo(f"  webhooks   {self._url}")
        click.echo(f"  secret     {_relative(self._folder.path / 'webhook-secret')}")
        click.echo(f"  data       {_relative(self._folder.path)}")
        click.echo(f"  actions    {config}")
        click.echo()

    def _send(self, title: str, **changes: None) -> None:
        click.echo(title)
        sent = send_sample(self._url, self._secret, **changes)
        click.echo(f"          202, stored after {sent.ms:.0f} ms as {sent.delivery}")
        told = self._narrator.told(sent.delivery)
        deadline = time.monotonic() + _PATIENCE
        while not told.wait(0.2) and not self._stopped.is_set() and time.monotonic() < deadline:
            pass
        click.echo()

    def _conclude(self) -> None:
        click.echo("It stays up, and says what comes in. In another terminal, try:")
        command = _command()
        click.echo(f"  {command} trigger --email you@example.com")
        click.echo(f"  {command} jobs list")
        if self._config.path is None:
            click.echo("For rules of your own, write a tiercast.toml and start again; see tiercast.example.toml.")
        click.echo("Ctrl-C stops everything.")
        click.echo()


def _environment(folder: Folder, config: Path | None) -> dict[str, str]:
    """The environment of the processes, beyond our own."""
    env = {name: value for name, value in os.environ.items() if name.startswith("TIERCAST_") and value}
    if config is not None:
        env["TIERCAST_CONFIG"] = str(config.absolute())
    env.setdefault("TIERCAST_DEMO_DIR", str(folder.path))
    env.setdefault("TIERCAST_SPOOL_DIR", str(folder.path / "spool"))
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
