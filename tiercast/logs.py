"""Logging: structured key-values with ids only, as text for a terminal or JSON lines for everything else."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

import structlog

from .settings import Settings, unknown_variables

#: Loggers of libraries that speak of every call, with addresses that may hold personal data.
_QUIET = ("kombu", "amqp", "redis", "mail", "asyncio")

#: A value that needs no quotes.
_WORD = re.compile(r"[^\s\x00-\x1f\x7f\"=,\\]+")

#: Seconds that a line waits for a pipe that is full; after one that waited in vain, others wait no more.
_PATIENCE_SECONDS = 0.2

#: Bytes that a pipe that is ready takes at once.
_PIPE_BYTES = select.PIPE_BUF

#: How many frames of an exception, and how many causes, are told.
_MOST_FRAMES = 12
_MOST_CAUSES = 4


def set_up_logs(settings: Settings, *, process: str) -> None:
    """Send our log lines and those of libraries to standard output, in one form.

    A line that cannot be written is dropped and counted (see `Outlet`); whoever logs never hears of it.

    Args:
        process: what this process is (`web`, `worker`), on every line.
    """
    stamp: Any = _Stamp(process)
    ending: list[Any] = [_places, *_renderers(settings.log_format)]

    def as_dropped(count: int) -> str:
        line: Any = {"event": "logs.dropped", "count": count}
        for step in (stamp, *ending):
            line = step(None, "warning", line)
        return str(line)

    outlet = Outlet(sys.stdout, as_dropped=as_dropped)
    level = logging.getLevelName(settings.log_level.upper())
    structlog.configure(
        processors=[stamp, *ending],
        wrapper_class=_harmless(structlog.make_filtering_bound_logger(level), outlet),
        logger_factory=lambda *_: outlet,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(outlet)
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


class Outlet:
    """Where log lines go. Writing never raises, and hardly ever waits.

    A line that standard output does not take (its reader is gone, its disk is full, its pipe is full and nobody
    reads) is dropped. The next that is taken is preceded by a line that tells how many were.

    Args:
        stream: where to write; its encoding is not trusted with every character.
        as_dropped: makes the line that tells how many were dropped.
    """

    def __init__(self, stream: TextIO, *, as_dropped: Callable[[int], str]) -> None:
        self._stream = stream
        self._as_dropped = as_dropped
        self._lock = threading.Lock()
        self._dropped = 0
        #: Whether the last line waited in vain, and whether it was cut off.
        self._stuck, self._cut = False, False
        self._pipe = _pipe_of(stream)
        # A process that is forked while a line is written would never get the lock.
        os.register_at_fork(after_in_child=self._renew_lock)

    @property
    def dropped(self) -> int:
        """Lines that were dropped since the last that was written."""
        return self._dropped

    def drop(self) -> None:
        """Count a line that could not be made."""
        self._dropped += 1

    def msg(self, line: str) -> None:
        """Write one line, whole and at once, so that those of several processes do not run together."""
        # A thread that is stuck in a write holds the lock.
        if not self._lock.acquire(timeout=0 if self._stuck else _PATIENCE_SECONDS):
            self._dropped += 1
            return
        try:
            if self._dropped:
                self._write(self._as_dropped(self._dropped))
                self._dropped = 0
            self._write(line)
            self._stuck = False
        except (OSError, ValueError):
            self._dropped += 1
        finally:
            self._lock.release()

    debug = info = warning = error = critical = log = msg

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _write(self, line: str) -> None:
        if self._pipe is not None:
            self._write_pipe(self._pipe, line.encode(errors="backslashreplace") + b"\n")
            return
        try:
            self._stream.write(line + "\n")
        except UnicodeEncodeError:
            self._stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        self._stream.flush()

    def _write_pipe(self, descriptor: int, line: bytes) -> None:
        """Write to a pipe or socket, piece by piece as it takes them, so that a reader that stops stops nobody else."""
        if self._cut:
            line = b"\n" + line
        self._cut, whole = False, len(line)
        while line:
            if not _is_ready(descriptor, 0 if self._stuck else _PATIENCE_SECONDS):
                self._stuck, self._cut = True, len(line) < whole
                raise BlockingIOError(errno.EAGAIN, "nobody reads")
            line = line[os.write(descriptor, line[:_PIPE_BYTES]) :]


def _pipe_of(stream: TextIO) -> int | None:
    """The descriptor of a stream that can block its writer: a pipe or a socket; None for others."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _is_ready(descriptor: int, seconds: float) -> bool:
    """Whether a write of a little would not wait; a pipe without a reader is ready to say so."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class _Handler(logging.Handler):
    """Gives libraries' lines to the outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self._outlet.drop()
        else:
            self._outlet.msg(line)


def _harmless(kind: type[Any], outlet: Outlet) -> type[Any]:
    """A logger that drops a line which cannot be made, in place of raising."""

    class Harmless(kind):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **values: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, **values)
            except Exception:
                outlet.drop()
                return None

    return Harmless


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


def _renderers(form: str) -> list[Any]:
    if form == "json":
        return [structlog.processors.JSONRenderer()]
    return [_printable, structlog.dev.ConsoleRenderer()] if sys.stdout.isatty() else [_as_text]


def _as_text(_logger: Any, _method: str, event: dict[str, Any]) -> str:
    """A line for people where nobody watches: `<time> [<level>] <event> name=value ...`."""
    values = [f"{name}={_value(value)}" for name, value in event.items() if name not in {"timestamp", "level", "event"}]
    return f"{event['timestamp']} [{event['level']}] {_escaped(event.get('event'))} {' '.join(values)}"


def _printable(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Escape what a terminal would obey or hide, in all texts of a line."""
    return {name: _escaped(value) for name, value in event.items()}


def _escaped(value: Any) -> Any:
    """Escape control characters (C0 and C1), marks of direction, and whatever else is not printable."""
    if isinstance(value, (list, tuple)):
        return [_escaped(one) for one in value]
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)


def _value(value: Any) -> str:
    """A value in one word, or quoted; a list's values are parted by commas."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(_value, value))
    text = str(value)
    if _WORD.fullmatch(text) and text.isprintable():
        return text
    escaped: str = _escaped(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'
