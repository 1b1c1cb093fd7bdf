"""Settings from the environment, read and validated once at the start of each process.

Two variables are validated here and read by the kind `email` itself, since they are the defaults of its options:
`TIERCAST_EMAIL_SERVER` (`server`) and `TIERCAST_EMAIL_FROM` (`from`). So are `TIERCAST_PROXY` and
`TIERCAST_VENDOR_MESSAGES`, which `tiercast.outbound` reads.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from .broker_address import broker_config
from .errors import SettingsError
from .history.address import EXAMPLE as _HISTORY_EXAMPLE
from .history.address import AddressError as HistoryAddressError
from .history.address import HistoryAddress
from .redis_address import TLS_SCHEMES, AddressError, RedisAddress, is_redis, with_ca

#: The source that `TIERCAST_WEBHOOK_SECRETS` belongs to.
DEFAULT_SOURCE = "voucherify"

#: Every variable of ours; docs/configuration.md has the table, and a test compares the two.
VARIABLES = frozenset(
    {
        "TIERCAST_ALLOWED_SENDERS",
        "TIERCAST_BROKER_URL",
        "TIERCAST_CONFIG",
        "TIERCAST_DATA",
        "TIERCAST_DEMO_DIR",
        "TIERCAST_DURABILITY",
        "TIERCAST_EMAIL_FROM",
        "TIERCAST_EMAIL_SERVER",
        "TIERCAST_EXTRA_HEADER",
        "TIERCAST_HASH_KEY",
        "TIERCAST_HISTORY_URL",
        "TIERCAST_KEEP_DAYS",
        "TIERCAST_KEEP_DEAD_DAYS",
        "TIERCAST_LEASE",
        "TIERCAST_LOG_FORMAT",
        "TIERCAST_LOG_LEVEL",
        "TIERCAST_MAX_BODY",
        "TIERCAST_MAX_OWED",
        "TIERCAST_MEMORY_SHARE",
        "TIERCAST_PREFIX",
        "TIERCAST_PROXY",
        "TIERCAST_REDIS_CA",
        "TIERCAST_REDIS_URL",
        "TIERCAST_SPOOL_DIR",
        "TIERCAST_SPOOL_MAX",
        "TIERCAST_TRUSTED_PROXIES",
        "TIERCAST_URL",
        "TIERCAST_VENDOR_MESSAGES",
        "TIERCAST_WEBHOOK_SECRETS",
    }
)

#: The configuration file, unless TIERCAST_CONFIG names another.
DEFAULT_CONFIG = "tiercast.toml"

#: The data folder, unless TIERCAST_DATA names another.
DEFAULT_DATA = ".tiercast"

#: Bytes above which the receiver refuses a body, whoever signed it.
HARD_MAX_BODY = 8 * 1024 * 1024

_DURABILITY = "written|fsync|replica:[1-9][0-9]?"
_CA = "TIERCAST_REDIS_CA"
_REDIS_EXAMPLE = "Example: redis://:password@redis.internal:6379/0"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

#: The shortest key of keyed hashes: they are to keep guessed emails from being recognised.
_SHORTEST_KEY = 16

#: The shortest webhook secret: whoever guesses it can post anything.
SHORTEST_SECRET = 16

#: The most characters of a wrong value that a message repeats.
_MOST_SHOWN = 60

_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process; see docs/configuration.md for the table.

    Sizes are bytes, durations seconds, retentions days. `files` says that a history is named: workers file into it.
    """

    config: Path
    config_named: bool
    redis_url: str
    broker_url: str
    history: HistoryAddress
    files: bool
    prefix: str
    webhook_secrets: tuple[str, ...]
    hash_key: str | None
    durability: str
    spool_dir: Path | None
    spool_max: int
    demo_dir: Path | None
    allowed_senders: str | None
    trusted_proxies: int
    extra_header: str | None
    max_body: int
    max_owed: int
    memory_share: float
    lease: float
    keep_days: float
    keep_dead_days: float
    keep_history_days: float
    log_format: str
    log_level: str

    def __repr__(self) -> str:
        """Name no secret and no address that may hold a password."""
        return f"Settings(config={str(self.config)!r}, durability={self.durability!r})"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (by default the process's own).

    Raises:
        SettingsError: a value cannot be used; the message names the variable and what was expected.
    """
    env = os.environ if environ is None else environ
    redis_url = _ledger(env)
    _check_ca(env)
    _check_email(env)
    _matching(env, "TIERCAST_PROXY", "none", "none|environment", "none or environment")
    _matching(env, "TIERCAST_VENDOR_MESSAGES", "short", "short|full", "short or full")
    return Settings(
        config=_folder(env, "TIERCAST_CONFIG") or Path(DEFAULT_CONFIG),
        config_named=_folder(env, "TIERCAST_CONFIG") is not None,
        redis_url=redis_url,
        broker_url=_broker(env) or redis_url,
        history=_history(env),
        files=bool(_text(env, "TIERCAST_HISTORY_URL")),
        prefix=_matching(env, "TIERCAST_PREFIX", "tc", r"[A-Za-z0-9_.{}-]{1,64}", "letters, digits and . _ - { }"),
        webhook_secrets=_secrets(env),
        hash_key=_hash_key(env),
        durability=_durability(env),
        spool_dir=_folder(env, "TIERCAST_SPOOL_DIR"),
        spool_max=_number(env, "TIERCAST_SPOOL_MAX", 2**30, int, 2**20, 2**50, "bytes"),
        demo_dir=_folder(env, "TIERCAST_DEMO_DIR"),
        allowed_senders=env.get("TIERCAST_ALLOWED_SENDERS", "").strip() or None,
        trusted_proxies=_number(env, "TIERCAST_TRUSTED_PROXIES", 0, int, 0, 16, "proxies"),
        extra_header=env.get("TIERCAST_EXTRA_HEADER", "").strip() or None,
        max_body=_number(env, "TIERCAST_MAX_BODY", 2**20, int, 1024, HARD_MAX_BODY, "bytes"),
        max_owed=_number(env, "TIERCAST_MAX_OWED", 5_000_000, int, 1, 10**9, "deliveries"),
        memory_share=_number(env, "TIERCAST_MEMORY_SHARE", 0.8, float, 0.1, 0.95, "a share of the ledger's maxmemory"),
        lease=_number(env, "TIERCAST_LEASE", 30.0, float, 1, 3600, "seconds"),
        keep_days=_number(env, "TIERCAST_KEEP_DAYS", 7.0, float, 0, 3650, "days"),
        keep_history_days=_number(env, "TIERCAST_KEEP_DAYS", 90.0, float, 0, 3650, "days"),
        keep_dead_days=_number(env, "TIERCAST_KEEP_DEAD_DAYS", 30.0, float, 0, 3650, "days"),
        log_format=_matching(env, "TIERCAST_LOG_FORMAT", "text", "text|json", "text or json"),
        log_level=_matching(
            env, "TIERCAST_LOG_LEVEL", "info", "debug|info|warning|error", "debug, info, warning or error"
        ),
    )


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """One sentence for each variable that begins like ours and is none of ours, with the nearest that is.

    Those that the configuration file, or another variable, refers to (`env:TIERCAST_...`) are the user's own.
    """
    env = os.environ if environ is None else environ
    named = _referred_to(env)
    found = sorted(name for name in env if name.startswith("TIERCAST_") and name not in VARIABLES and name not in named)
    return [f"{name} is no variable of Tiercast, so it changes nothing.{_nearest_variable(name)}" for name in found]


def _referred_to(env: Mapping[str, str]) -> set[str]:
    """The variables that the configuration file and other variables refer to; a file that is wrong is read as text."""
    texts = [value for name, value in env.items() if name in VARIABLES]
    # A file that cannot be read is another's to report.
    with contextlib.suppress(OSError, ValueError):
        texts.append(Path(env.get("TIERCAST_CONFIG") or DEFAULT_CONFIG).read_text(encoding="utf-8", errors="replace"))
    return {name for text in texts for name in re.findall(r"env:(TIERCAST_[A-Za-z0-9_]+)", text)}


def _nearest_variable(name: str) -> str:
    near = difflib.get_close_matches(name.removeprefix("TIERCAST_"), [one[9:] for one in sorted(VARIABLES)], n=1)
    return f" Did you mean TIERCAST_{near[0]}?" if near else ""


def _text(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip()


def _shown(value: str) -> str:
    return repr(value if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]}...")


def _matching(env: Mapping[str, str], name: str, default: str, pattern: str, expected: str) -> str:
    value = _text(env, name) or default
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} is {_shown(value)}; expected {expected}.")
    return value


def _number(
    env: Mapping[str, str], name: str, default: _N, kind: Callable[[str], _N], low: float, high: float, unit: str
) -> _N:
    text = _text(env, name)
    if not text:
        return default
    try:
        # Python's own number forms (1_000, nan, digits of other scripts) are most likely slips.
        value = kind(text) if _NUMBER.fullmatch(text) else None
    except ValueError:
        value = None
    if value is None:
        what = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{name} is {_shown(text)}; expected {what} ({unit}).")
    if not low <= value <= high:
        raise SettingsError(f"{name} is {_shown(text)}; expected {unit} between {low:.12g} and {high:.12g}.")
    return value


def _ledger(env: Mapping[str, str]) -> str:
    """The address of the ledger. No message repeats it: it may hold a password."""
    return _redis(env, "TIERCAST_REDIS_URL", _text(env, "TIERCAST_REDIS_URL") or "redis://127.0.0.1:6379/0")


def _redis(env: Mapping[str, str], name: str, value: str) -> str:
    try:
        authority = _text(env, _CA)
        if authority and value.partition("://")[0] in TLS_SCHEMES:
            value = with_ca(value, authority)
        address = RedisAddress.read(value)
        if address.tls is not None:
            address.tls.check_files()
    except AddressError as error:
        raise SettingsError(f"{name} {error}. {_REDIS_EXAMPLE}") from None
    return value


def _broker(env: Mapping[str, str]) -> str:
    """The address of the broker, which may hold a password; Celery has many forms of it, all with a scheme."""
    value = _text(env, "TIERCAST_BROKER_URL")
    if value and not re.match(r"[a-z][a-z0-9+.-]*://", value):
        raise SettingsError(
            "TIERCAST_BROKER_URL does not start with a scheme such as redis:// or amqp://. "
            "Example: amqp://user:password@rabbitmq.internal:5672//"
        )
    if not value:
        return ""
    if is_redis(value):
        return _redis(env, "TIERCAST_BROKER_URL", value)
    try:
        broker_config(value)
    except AddressError as error:
        raise SettingsError(f"TIERCAST_BROKER_URL {error}.") from None
    return value


def _history(env: Mapping[str, str]) -> HistoryAddress:
    """Where the history is. No message repeats the address: it may hold a password."""
    folder = _text(env, "TIERCAST_DATA") or DEFAULT_DATA
    try:
        return HistoryAddress.read(_text(env, "TIERCAST_HISTORY_URL") or f"sqlite:///{quote(folder)}/history.db")
    except HistoryAddressError as error:
        raise SettingsError(f"TIERCAST_HISTORY_URL {error}. {_HISTORY_EXAMPLE}") from None


def _check_ca(env: Mapping[str, str]) -> None:
    """A CA for addresses that use no TLS means that somebody believes they do."""
    named = [_text(env, name) for name in ("TIERCAST_REDIS_URL", "TIERCAST_BROKER_URL")]
    if (
        _text(env, _CA)
        and any(named)
        and not any(value.startswith(tuple(f"{s}:" for s in TLS_SCHEMES)) for value in named)
    ):
        raise SettingsError(
            f"{_CA} is set, but no address starts with rediss:// or sentinels://, so that nothing would use TLS."
        )


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    text = _text(env, name)
    return Path(text) if text else None


def _secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    found = (part.strip() for part in _text(env, "TIERCAST_WEBHOOK_SECRETS").split(","))
    secrets = tuple(dict.fromkeys(part for part in found if part))
    for number, secret in enumerate(secrets, 1):
        if fault := secret_fault(secret):
            which = f"secret {number} of {len(secrets)} " if len(secrets) > 1 else ""
            raise SettingsError(f"TIERCAST_WEBHOOK_SECRETS: {which}{fault}.")
    return secrets


def secret_fault(secret: str) -> str | None:
    """Why a webhook secret cannot be used, without the secret; None for one that can."""
    if len(secret) >= SHORTEST_SECRET:
        return None
    return (
        f"has {len(secret)} characters; expected {SHORTEST_SECRET} or more, since a shorter one can be guessed. "
        "Copy the project's secret from Voucherify's dashboard whole"
    )


def _hash_key(env: Mapping[str, str]) -> str | None:
    key = _text(env, "TIERCAST_HASH_KEY")
    if key and len(key) < _SHORTEST_KEY:
        raise SettingsError(
            f"TIERCAST_HASH_KEY has {len(key)} characters; expected {_SHORTEST_KEY} or more. "
            "Make one with: openssl rand -hex 32"
        )
    return key or None


def _durability(env: Mapping[str, str]) -> str:
    return _matching(env, "TIERCAST_DURABILITY", "written", _DURABILITY, "written, fsync or replica:N (N from 1 to 99)")


def _check_email(env: Mapping[str, str]) -> None:
    """Check the form of the kind `email`'s defaults, so that a message names the variable; no value is repeated."""
    server, sender = _text(env, "TIERCAST_EMAIL_SERVER"), _text(env, "TIERCAST_EMAIL_FROM")
    if server and not re.match(r"smtps?://[^/]|file:.", server):
        raise SettingsError(
            "TIERCAST_EMAIL_SERVER is no mail server; expected smtp://host, smtp://host:587, smtps://host or "
            "file:DIRECTORY."
        )
    if not server.startswith("file:") and re.match(r"[a-z]+://[^/@]*:[^/@]*@", server):
        raise SettingsError(
            'TIERCAST_EMAIL_SERVER holds a password; give it to the action: username = "...", password = "env:NAME".'
        )
    if sender and len(re.findall(r"[^\s@<>,]+@[^\s@<>,]+", sender)) != 1:
        raise SettingsError(
            "TIERCAST_EMAIL_FROM is not exactly one address; expected rewards@shop.example or "
            "Rewards <rewards@shop.example>."
        )
