"""The configuration file as a document: where it is, its text, its faults."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..settings import Settings

Json = dict[str, Any]


@dataclass(slots=True)
class Document:
    """A parsed file. `path` is None for the built-in demo; `faults` are found on the way and told all at once."""

    path: Path | None
    data: Json
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How messages name the file."""
        return str(self.path) if self.path else "the demo configuration"

    def fault(self, key: str, message: str) -> None:
        """Note a fault of the value at a dotted key."""
        # A quoted name may hold anything, and each fault is one line of a terminal.
        line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in f"{key}: {message}")
        if line not in self.faults:
            self.faults.append(line)

    def raise_faults(self) -> None:
        """Raise ConfigError with all faults, a line each, if there are any."""
        if self.faults:
            raise ConfigError("\n".join(f"{self.name}: {fault}" for fault in self.faults))


def read_document(settings: Settings) -> Document | None:
    """Read the configuration file; None where there is none and none was named.

    Raises:
        ConfigError: it is named and missing, unreadable, or no TOML.
    """
    path = settings.config
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if settings.config_named:
            raise ConfigError(
                f"There is no configuration file {path} (TIERCAST_CONFIG). Name one that exists."
            ) from None
        return _demo(settings)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        # The error's own text would show a byte of the file, which may hold what is nobody's business.
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line} is no UTF-8; save the file in that encoding") from None
    try:
        return Document(path, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: no valid TOML: it is nested too deeply") from None


def _demo(settings: Settings) -> Document | None:
    """The built-in configuration, with the mail folder of this installation."""
    if settings.demo_dir is None:
        return None
    text = (Path(__file__).parent.parent / "demo.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    data["actions"]["welcome-email"]["server"] = f"file:{settings.demo_dir / 'mail'}"
    return Document(None, data)


def resolve_secret(value: object, *, base: Path | None) -> str:
    """The secret behind `env:NAME` or `file:PATH` (relative paths start at the configuration file's folder).

    Raises:
        ValueError: with what is wrong and what to do; never with the secret.
    """
    kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind not in {"env", "file"} or not name:
        raise ValueError("expected a reference, env:NAME or file:PATH; secrets do not stand in this file")
    if kind == "env":
        if not (found := os.environ.get(name, "").strip()):
            raise ValueError(f"the environment variable {name} is not set")
        return found
    path = (base or Path()) / name
    try:
        # Windows' editors put a byte order mark before the text.
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file {path} cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8'}") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    return text


def read_text(value: str, *, base: Path | None) -> str:
    """The text of an option: what stands behind `file:PATH`, or the value itself.

    Raises:
        ValueError: the file cannot be used; with what is wrong and what to do.
    """
    kind, _, name = value.partition(":")
    name = name.strip()
    if kind != "file" or "\n" in value.strip():
        return value
    if not name or "{{" in name or "{%" in name:
        raise ValueError("expected file:PATH, and the path cannot be a template")
    path = (base or Path()) / Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8"
        raise ValueError(f"the file {path} cannot be read: {why}; relative paths start at this file's folder") from None
    if not text.strip():
        raise ValueError(f"the file {path} is empty")
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at what may have been meant: " Did you mean x?", or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]}?" if found else ""


def check_keys(document: Document, key: str, found: Mapping[str, object], known: Iterable[str]) -> None:
    """Note unknown keys as faults, with the nearest known one."""
    allowed = sorted(known)
    for name in found:
        if name not in allowed:
            hint = nearest(name, allowed) or f" Known here: {', '.join(allowed)}."
            document.fault(f"{key}.{name}" if key else name, f"unknown key.{hint}")
