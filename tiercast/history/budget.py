"""A time budget for reads: statements that run past it are stopped, by the database itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from .engine import is_interrupted

#: Instructions of SQLite's machine between two looks at the clock: about 0.1 ms.
_STEPS = 5000

#: PostgreSQL takes 0 for no limit.
_LEAST_MS = 1


class OverBudget(Exception):
    """A statement was stopped, since the time of its read is over."""


class Budget:
    """The time that a read may take on one connection. None stands for no limit.

    A PostgreSQL connection has to be in autocommit, so that a statement which was stopped takes no other along.
    """

    def __init__(self, connection: sa.Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._ends = math.inf if seconds is None else time.monotonic() + seconds
        self._suspended = 0

    def __enter__(self) -> Budget:
        if self._seconds is not None:
            self._limit(self._seconds)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._seconds is not None and not self._connection.invalidated:
            self._limit(None)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._ends

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Run a statement within the time.

        Raises:
            OverBudget: it was stopped. The connection can be used on.
        """
        try:
            yield
        except exc.DBAPIError as error:
            if self._seconds is None or not is_interrupted(error):
                raise
            raise OverBudget from None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Run statements whatever the time: those that end soon by themselves."""
        self._suspended += 1
        if self._suspended == 1 and self._seconds is not None:
            self._limit(None)
        try:
            yield
        finally:
            self._suspended -= 1
            if self._suspended == 0 and self._seconds is not None:
                self._limit(self._ends - time.monotonic())

    def _limit(self, seconds: float | None) -> None:
        if self._connection.dialect.name == "postgresql":
            ms = 0 if seconds is None else max(_LEAST_MS, round(seconds * 1000))
            self._connection.exec_driver_sql(f"SET statement_timeout = {ms}")
            return
        driver: Any = self._connection.connection.driver_connection
        if seconds is None:
            driver.set_progress_handler(None, 0)
        else:
            driver.set_progress_handler(lambda: self.is_over, _STEPS)
