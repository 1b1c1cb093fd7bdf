"""Settings from the environment, read and validated once at the start of each process."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from .errors import SettingsError

#: The source that `TIERCAST_WEBHOOK_SECRETS` belongs to.
DEFAULT_SOURCE = "voucherify"

_DURABILITY = re.compile(r"written|fsync|replica:[1-9][0-9]?")
_REDIS_SCHEMES = ("redis", "rediss", "unix")

_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process; see docs/configuration.md for the table.

    Sizes are bytes, durations seconds, retentions days.
    """

    config: Path
    config_named: bool
    redis_url: str
    broker_url: str
    prefix: str
    webhook_secrets: tuple[str, ...]
    hash_key: str | None
    durability: str
    spool_dir: Path | None
    demo_dir: Path | None
    max_body: int
    max_owed: int
    memory_share: float
    lease: float
    keep_days: float
    keep_dead_days: float
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
    redis_url = _url(env, "TIERCAST_REDIS_URL", "redis://127.0.0.1:6379/0")
    return Settings(
        config=Path(env.get("TIERCAST_CONFIG") or "tiercast.toml"),
        config_named=bool(env.get("TIERCAST_CONFIG")),
        redis_url=redis_url,
        broker_url=env.get("TIERCAST_BROKER_URL") or redis_url,
        prefix=_matching(env, "TIERCAST_PREFIX", "tc", r"[A-Za-z0-9_.{}-]{1,64}", "letters, digits and . _ - { }"),
        webhook_secrets=_secrets(env),
        hash_key=env.get("TIERCAST_HASH_KEY") or None,
        durability=_durability(env),
        spool_dir=_folder(env, "TIERCAST_SPOOL_DIR"),
        demo_dir=_folder(env, "TIERCAST_DEMO_DIR"),
        max_body=_number(env, "TIERCAST_MAX_BODY", 256 * 1024, int, 1024, 16 * 1024 * 1024, "bytes"),
        max_owed=_number(env, "TIERCAST_MAX_OWED", 5_000_000, int, 1, 10**9, "deliveries"),
        memory_share=_number(env, "TIERCAST_MEMORY_SHARE", 0.8, float, 0.1, 0.95, "a share of the ledger's maxmemory"),
        lease=_number(env, "TIERCAST_LEASE", 30.0, float, 1, 3600, "seconds"),
        keep_days=_number(env, "TIERCAST_KEEP_DAYS", 7.0, float, 0, 3650, "days"),
        keep_dead_days=_number(env, "TIERCAST_KEEP_DEAD_DAYS", 30.0, float, 0, 3650, "days"),
        log_format=_matching(env, "TIERCAST_LOG_FORMAT", "text", "text|json", "text or json"),
        log_level=_matching(
            env, "TIERCAST_LOG_LEVEL", "info", "debug|info|warning|error", "debug, info, warning or error"
        ),
    )


def _matching(env: Mapping[str, str], name: str, default: str, pattern: str, expected: str) -> str:
    value = env.get(name, "").strip() or default
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} is {value!r}; expected {expected}.")
    return value


def _number(
    env: Mapping[str, str], name: str, default: _N, kind: Callable[[str], _N], low: float, high: float, unit: str
) -> _N:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; expected a number ({unit}).") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} is {text}; expected {unit} between {low:g} and {high:g}.")
    return value


def _url(env: Mapping[str, str], name: str, default: str) -> str:
    value = env.get(name, "").strip() or default
    if urlsplit(value).scheme not in _REDIS_SCHEMES:
        raise SettingsError(
            f"{name} does not start with redis://, rediss:// or unix://. "
            "Example: redis://:password@redis.internal:6379/0"
        )
    return value


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "").strip()
    return Path(text) if text else None


def _secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in env.get("TIERCAST_WEBHOOK_SECRETS", "").split(",") if part.strip())


def _durability(env: Mapping[str, str]) -> str:
    value = env.get("TIERCAST_DURABILITY", "").strip() or "written"
    if not _DURABILITY.fullmatch(value):
        raise SettingsError(f"TIERCAST_DURABILITY is {value!r}; expected written, fsync or replica:N (N from 1 to 99).")
    return value
