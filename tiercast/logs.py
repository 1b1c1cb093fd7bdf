"""Logging: structured key-values with ids only, as text for a terminal or JSON lines for everything else."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

import structlog

from .settings import Settings, unknown_variables

#: Loggers of libraries that speak of every call, with addresses that may hold personal data.
_QUIET = ("httpx", "httpcore", "kombu", "amqp", "redis", "mail", "asyncio")

#: A value that needs no quotes.
_WORD = re.compile(r"[^\s\x00-\x1f\x7f\"=,\\]+")

#: How many frames of an exception, and how many causes, are told.
_MOST_FRAMES = 12
_MOST_CAUSES = 4


def set_up_logs(settings: Settings, *, process: str) -> None:
    """Send our log lines and those of libraries to standard output, in one form.

    Args:
        process: what this process is (`web`, `worker`), on every line.
    """
    stamp: Any = _Stamp(process)
    ending = [_places, _renderer(settings.log_format)]
    level = logging.getLevelName(settings.log_level.upper())
    structlog.configure(
        processors=[stamp, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: those of several processes do not run together.
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[stamp, structlog.stdlib.ExtraAdder(allow=())],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    for text in unknown_variables():
        structlog.get_logger().warning("settings.unknown", reason=text)
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def place(error: BaseException) -> str:
    """Where an exception was raised, innermost first, without any value: `ValueError at planning.py:33, ...`.

    An exception's own text is not logged: it may quote an event, and so a person.
    """
    frames = traceback.extract_tb(error.__traceback__)[::-1][:_MOST_FRAMES]
    where = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {where or 'an unknown place'}"


def _places(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """In place of a traceback with its message, tell types and places, of the causes too."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else sys.exc_info()[1] if found is True else found
    told: list[str] = []
    while isinstance(error, BaseException) and len(told) < _MOST_CAUSES:
        told.append(place(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if told:
        event["exception"] = "; after ".join(told)
    return event


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log what nobody caught, in place of Python's own traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    elif not issubclass(kind, SystemExit):
        structlog.get_logger().error("process.fault", thread=threading.current_thread().name, exc_info=error)


class _Stamp:
    """Puts time, level and process on each line; in one step, since at full load lines are a part of what it costs."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._cached = (0, "")

    def __call__(self, _logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        second = int(now)
        cached, text = self._cached
        if second != cached:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._cached = (second, text)
        level = "error" if method == "exception" else "warning" if method == "warn" else method
        told = {"timestamp": f"{text}.{int((now - second) * 1e6):06d}Z", "level": level}
        return told | event | {"process": self._process}


def _renderer(form: str) -> Any:
    if form == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer() if sys.stdout.isatty() else _as_text


def _as_text(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    """A line for people where nobody watches: `<time> [<level>] <event> name=value ...`."""
    values = [f"{name}={_value(value)}" for name, value in event.items() if name not in {"timestamp", "level", "event"}]
    return f"{event['timestamp']} [{event['level']}] {event.get('event')} {' '.join(values)}"


def _value(value: Any) -> str:
    """A value in one word, or quoted; a list's values are parted by commas."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(_value, value))
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)
