"""Transactions that commit, inside the one of a ``TestCase`` that is undone in the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Protocol

from django.db import connections

__all__ = ["Commits", "Watcher"]

_READS = re.compile(r"[\s(]*(SELECT|SAVEPOINT|RELEASE|ROLLBACK|PRAGMA|SHOW|SET|EXPLAIN)\b", re.IGNORECASE)
_WRITTEN = re.compile(
    r"(?:INSERT\s+(?:IGNORE\s+)?INTO|(?<!FOR )(?<!KEY )(?<!DO )UPDATE|DELETE\s+FROM)\s+[\"`]?(\w+)",
    re.IGNORECASE,
)

# What Django's connection knows of a transaction: in autocommit mode it says this.
_AUTOCOMMIT: dict[str, Callable[[], Any]] = {
    "autocommit": lambda: True,
    "commit_on_exit": lambda: True,
    "in_atomic_block": lambda: False,
    "needs_rollback": lambda: False,
    "run_commit_hooks_on_set_autocommit_on": lambda: False,
    "atomic_blocks": list,
    "run_on_commit": list,
    "savepoint_ids": list,
}


class Watcher(Protocol):
    """Who hears of what the connection does, and may end it by raising."""

    def check_alive(self) -> None: ...

    def come_to(self, point: str, *, busy: bool = False) -> None:
        """Something is about to happen, or has happened.

        Args:
            busy: Whether a transaction is open, so that nobody else can use the connection now.
        """
        ...

    def begun(self) -> None: ...

    def ended(self) -> None:
        """A transaction is about to be committed, or was rolled back."""
        ...

    def committed(self, tables: frozenset[str]) -> None:
        """What was written to these tables is there for everybody."""
        ...


class Commits:
    """Lets Django believe that a connection is in autocommit mode.

    So ``atomic`` begins and commits, ``durable`` means it, ``on_commit`` callbacks run after the commit, and
    a statement outside of a transaction commits by itself. What is a transaction to Django is a savepoint to
    the database, and all of it can be undone. There is one connection: nobody works at the same instant.

    Attributes:
        open: Whether a transaction is open.
        tables: Every table that was written to.
    """

    def __init__(self, using: str, watcher: Watcher) -> None:
        self.connection, self.watcher = connections[using], watcher
        self.open, self.tables = False, set[str]()
        self._touched: set[str] = set()
        self._savepoints = 0

    @contextmanager
    def imitated(self) -> Iterator[None]:
        """Commit while the block lasts, and undo everything at its end.

        Raises:
            RuntimeError: No transaction is open that could be undone.
        """
        if not self.connection.in_atomic_block:
            raise RuntimeError("Commits are imitated inside the transaction of a django.test.TestCase only.")
        with ExitStack() as stack:
            stack.enter_context(self.undone())
            stack.enter_context(self._replaced(self._methods))
            stack.enter_context(self._replaced({name: new() for name, new in _AUTOCOMMIT.items()}))
            stack.enter_context(self.connection.execute_wrapper(self._statement))
            yield

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo at the end of the block what was written in it, committed or not."""
        self._savepoints += 1
        name = f"undone_{self._savepoints}"
        self._say(f"SAVEPOINT {name}")
        try:
            yield
        finally:
            self._savepoints -= 1
            self.open = False
            self._say(f"ROLLBACK TO SAVEPOINT {name}")
            self._say(f"RELEASE SAVEPOINT {name}")

    def forget(self) -> None:
        """Drop what a process that died had left to do after a commit."""
        self.connection.run_on_commit = []
        self.connection.run_commit_hooks_on_set_autocommit_on = False

    @contextmanager
    def _replaced(self, attributes: dict[str, Any]) -> Iterator[None]:
        own = vars(self.connection)
        before = {name: own[name] for name in attributes if name in own}
        own.update(attributes)
        try:
            yield
        finally:
            for name in attributes:
                own.pop(name, None)
            own.update(before)

    @property
    def _methods(self) -> dict[str, Any]:
        methods: dict[str, Any] = {
            "_set_autocommit": self._set_autocommit,
            "_commit": self._commit,
            "_rollback": self._rollback,
            # A body, or the runner, that connects anew would leave the transaction that is to be undone.
            "close": self.forget,
        }
        if hasattr(self.connection, "_start_transaction_under_autocommit"):
            methods["_start_transaction_under_autocommit"] = self._begin
        return methods

    def _set_autocommit(self, autocommit: bool) -> None:
        if not autocommit:
            self._begin()
        elif self.open:
            self._rollback()

    def _begin(self) -> None:
        self.watcher.check_alive()
        self.watcher.come_to("begins a transaction")
        self._say("SAVEPOINT imitated")
        self.open, self._touched = True, set()
        self.watcher.begun()

    def _commit(self) -> None:
        self.watcher.check_alive()
        self.watcher.come_to("is about to commit", busy=True)
        self.watcher.ended()
        self._say("RELEASE SAVEPOINT imitated")
        self.open = False
        self._tell(self._touched)
        self.watcher.come_to("has committed", busy=True)

    def _rollback(self) -> None:
        if self.open:
            self.open = False
            self._say("ROLLBACK TO SAVEPOINT imitated")
            self._say("RELEASE SAVEPOINT imitated")
            self.watcher.ended()

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.watcher.check_alive()
        if self.open or _READS.match(sql):
            self._touched.update(_WRITTEN.findall(sql) if self.open else ())
            return self._alone(execute, sql, params, many, context)
        self.watcher.come_to("is about to write")
        result = self._alone(execute, sql, params, many, context)
        self._tell(set(_WRITTEN.findall(sql)))
        return result

    def _alone(self, execute: Any, *statement: Any) -> Any:
        """Let a statement outside of a transaction fail alone, where the server would fail the rest too."""
        if self.open or self.connection.vendor != "postgresql":
            return execute(*statement)
        self._say("SAVEPOINT alone")
        try:
            return execute(*statement)
        except BaseException:
            self._say("ROLLBACK TO SAVEPOINT alone")
            raise
        finally:
            self._say("RELEASE SAVEPOINT alone")

    def _tell(self, tables: set[str]) -> None:
        self.tables |= tables
        self.watcher.committed(frozenset(tables))

    def _say(self, sql: str) -> None:
        with self.connection.wrap_database_errors, closing(self.connection.create_cursor()) as cursor:
            cursor.execute(sql)
