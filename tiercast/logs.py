"""Logging: structured key-values with ids only, as text for a terminal or JSON lines for everything else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from .settings import Settings

#: Loggers of libraries that speak of every call, with addresses that may hold personal data.
_QUIET = ("httpx", "httpcore", "kombu", "amqp", "redis", "mail", "asyncio")


def set_up_logs(settings: Settings, *, process: str) -> None:
    """Send our log lines and those of libraries to standard output, in one form.

    Args:
        process: what this process is (`web`, `worker`), on every line.
    """
    shared: Sequence[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Process(process),
    ]
    as_json = settings.log_format == "json"
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    ending = [structlog.processors.format_exc_info, renderer] if as_json else [renderer]
    level = logging.getLevelName(settings.log_level.upper())
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=())],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Process:
    """Puts the process's name on each line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, _logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = self._name
        return event
