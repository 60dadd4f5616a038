"""A process that can be killed, or cut off, at any statement, commit, publish or acknowledgement.

It runs in a thread with a database connection of its own. Once it is dead it is mute: its connection is
closed at the handle, and whatever its ``finally`` blocks and its other threads try then is refused.
"""

import re
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

from django.db import DatabaseError, connections

_acting = threading.local()


class Killed(BaseException):
    """The process is gone: nothing that it would do from here on happens."""


class Blow(Enum):
    """What happens at a point."""

    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    LOSES_REQUEST = "loses the connection before"
    LOSES_REPLY = "loses the reply to"

    @property
    def lets_it_happen(self):
        return self in (Blow.DIES_AFTER, Blow.LOSES_REPLY)

    @property
    def kills(self):
        return self in (Blow.DIES_BEFORE, Blow.DIES_AFTER)


@dataclass(frozen=True)
class Fault:
    """A blow at a point: counted from 0, or the first of that label."""

    point: int | str
    blow: Blow


def acting():
    """The actor whose thread this is; None for the test itself."""
    return getattr(_acting, "actor", None)


class Actor:
    """Runs an act, and meets at most one fault in it.

    Attributes:
        points: What it came to, in order: a label each.
        struck: Whether it met its fault.
        returned: Whether the act came to its end.
        error: What the act raised; of a dead actor, `Killed`.
    """

    def __init__(self, fault=None, *, using="default"):
        self.fault, self.using = fault, using
        self.points, self._wrapped, self._lock = [], [], threading.RLock()
        self.struck = self.dead = self.returned = False
        self.error = None

    def run(self, act):
        """Run the act to its end, or to the actor's."""
        thread = threading.Thread(target=self._run, args=(act,), name="actor")
        thread.start()
        thread.join()
        return self

    def beside(self, act):
        """Run something in another thread of this process, and wait for it; raises what it raises."""
        raised = []

        def run():
            with self._wired():
                try:
                    act()
                except BaseException as error:
                    raised.append(error)

        thread = threading.Thread(target=run, name="beside")
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    def _run(self, act):
        with self._wired():
            try:
                act()
                self.returned = True
            except BaseException as error:
                self.error = error
        if self.dead:
            self.returned, self.error = False, Killed()

    @contextmanager
    def _wired(self):
        """Let everything pass through this actor that the thread says to the database."""
        connection = connections[self.using]
        connection.ensure_connection()
        if connection.vendor == "mysql":
            connection.mysql_server_data  # noqa: B018  (asked for once, and not by the library)
        _acting.actor = self
        self._wrapped.append(connection)
        try:
            with ExitStack() as stack:
                stack.enter_context(connection.execute_wrapper(self._statement))
                for name, wrapper in {
                    "_commit": self._commit,
                    "_rollback": self._rollback,
                    "_set_autocommit": self._unless_dead,
                    "get_new_connection": self._unless_dead,
                }.items():
                    setattr(connection, name, wrapper(connection, getattr(connection, name)))
                    stack.callback(delattr, connection, name)
                yield
        finally:
            _acting.actor = None
            self._wrapped.remove(connection)
            if self.dead:
                connection.connection = None
            with suppress(DatabaseError):
                connection.close()
            del connections[self.using]

    def _statement(self, execute, sql, params, many, context):
        connection = context["connection"]
        happen = partial(execute, sql, params, many, context)
        return self.come_to(label(sql), happen, partial(cut, connection))

    def _commit(self, connection, commit):
        return lambda: self.come_to("COMMIT", commit, partial(cut, connection))

    def _rollback(self, connection, rollback):
        return lambda: self.come_to("ROLLBACK", rollback, partial(cut, connection))

    def _unless_dead(self, connection, function):
        def unless_dead(*args, **kwargs):
            if self.dead:
                raise Killed
            return function(*args, **kwargs)

        return unless_dead

    def come_to(self, point, happen, fail):
        """Let something happen, unless the fault is here.

        Args:
            fail: Raises what the client library raises when it cannot know whether it happened.
        """
        with self._lock:
            if self.dead:
                raise Killed
            number = len(self.points)
            self.points.append(point)
        if self.struck or self.fault is None or self.fault.point not in (number, point):
            return happen()
        self.struck = True
        if self.fault.blow.lets_it_happen:
            with suppress(DatabaseError):
                happen()
        if self.fault.blow.kills:
            self.die()
        return fail()

    def die(self):
        """Be gone, here and now."""
        self.dead = True
        for connection in self._wrapped:
            hang_up(connection)
        raise Killed


def label(sql):
    """What a statement does, in two words."""
    verb = sql.lstrip("( ").partition(" ")[0].upper()
    tables = re.findall(r'(?:FROM|INTO|UPDATE)\s+["`]?(\w+)', sql)
    return f"{verb} {tables[0]}" if tables else verb


def hang_up(connection):
    """Close the handle: the server undoes what was not committed."""
    handle = connection.connection
    if handle is None:
        return
    if connection.vendor == "sqlite":
        handle.rollback()  # a cursor that was not read to its end would keep the file locked
        handle.close()
    else:
        server_process = _process(connection)
        getattr(handle, "_force_close", handle.close)()
        _await_end(connection, server_process)


def cut(connection):
    """Lose the connection, as its driver says it.

    A file cannot be cut off: SQLite undoes the transaction, and the handle stays.
    """
    if connection.vendor == "sqlite":
        if connection.connection.in_transaction:
            connection.connection.rollback()
    else:
        hang_up(connection)
    with connection.wrap_database_errors:
        raise connection.Database.OperationalError(2013, "the connection was lost")
    raise AssertionError("the wrapper of errors swallowed one")


def _process(connection):
    if connection.vendor == "postgresql":
        return connection.connection.info.backend_pid
    return connection.connection.thread_id() if connection.vendor == "mysql" else None


_ALIVE = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = %s",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE id = %s",
}


def _await_end(connection, process):
    """Wait until the server has noticed, so that its locks are gone: a crash is not a race."""
    if process is None:
        return
    observer = connections.create_connection(connection.alias)
    with observer.cursor() as cursor:
        alive = True
        while alive:
            cursor.execute(_ALIVE[connection.vendor], [process])
            alive = cursor.fetchone()[0]
    observer.close()
