"""Actors: real threads with a database connection each, of which exactly one runs at a time.

An actor has the baton until its next switching point: on a database with one writer between its
transactions, elsewhere before every statement and around every commit. A statement that waits for a lock of
an actor without the baton gives it back as well: the server itself says that it waits.
"""

import threading
from contextlib import suppress

from django.db import DatabaseError, connection, connections

ALONE = connection.vendor == "sqlite"


class Killed(BaseException):
    """The actor's process is gone: nothing that it would do from here on happens."""


class Actor:
    """One process: it does one job at a time, and only while it has the baton.

    Attributes:
        at: The switching point where it waits for the baton; empty while it has no job.
        dead: Whether it was killed in this job: every later statement and message is refused.
        waits: Whether its statement waits for a lock.
        error: What its job raised, if anything.
    """

    def __init__(self, name):
        self.name, self.at, self.error, self.job = name, "", None, None
        self.dead = self.waits = self._doomed = False
        self.backend = None
        self._turn, self._back = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()
        self._back.acquire()

    # What the baton's keeper calls

    def take(self, job):
        """Get a job. It begins when the actor gets the baton."""
        self.job, self.at, self.error, self.dead = job, "the beginning", None, False

    def go(self, monitor):
        """Run to the next switching point, or until a lock is in the way."""
        self._turn.release()
        self.look(monitor)

    def look(self, monitor):
        """Wait until the actor is at a switching point, or waits for a lock."""
        if ALONE:
            self._back.acquire()
            return
        while not self._back.acquire(timeout=0.002):
            if monitor.waits(self.backend):
                self.waits = True
                return
        self.waits = False

    def kill(self):
        """Let it die when it next gets the baton."""
        self._doomed = True

    def stop(self):
        self.job = None
        self._turn.release()
        self._thread.join()

    @property
    def in_transaction(self):
        return self._connection.in_atomic_block or self.at == "COMMIT"

    # What happens in the thread

    def _live(self):
        self._connection = connections["default"]
        self._connection.ensure_connection()
        self._connection.execute_wrappers.append(self._execute)
        self._commit, self._connection.commit = self._connection.commit, self._committing
        while True:
            self._back.release()
            self._turn.acquire()
            if self.job is None:
                break
            try:
                self._die_if_doomed()
                self.job()
            except Killed:
                pass
            except BaseException as error:
                self.error = None if self.dead else error
            if self.dead:
                self._forget_connection()
            self.job, self.at, self._doomed = None, "", False
        self._connection.close()

    def pause(self, at):
        """Give the baton back, and go on when it comes again."""
        self.at = at
        self._back.release()
        self._turn.acquire()
        self._die_if_doomed()

    def check_alive(self):
        if self.dead:
            raise Killed

    def _die_if_doomed(self):
        if self._doomed:
            self.die()

    def die(self):
        """Die here: the server sees the connection end, and rolls back."""
        self.dead = True
        with suppress(Exception):
            self._connection.connection.close()
        raise Killed

    def _execute(self, execute, sql, params, many, context):
        self.check_alive()
        if not (ALONE and self._connection.in_atomic_block):
            self.pause(sql)
            self.backend = backend_of(self._connection)
        result = execute(sql, params, many, context)
        if self.waits:
            self.pause("the lock it waited for")
        return result

    def _committing(self):
        self.check_alive()
        if not ALONE:
            self.pause("COMMIT")
        self._commit()
        self.pause("after COMMIT")

    def _forget_connection(self):
        """Connect anew for the next job, as another process would."""
        connection = self._connection
        with suppress(Exception):  # it may be closed, and another one opened in its place by then
            connection.connection.close()
        connection.closed_in_transaction = connection.in_atomic_block = connection.needs_rollback = False
        connection.savepoint_ids, connection.atomic_blocks, connection.run_on_commit = [], [], []
        connection.connection = None


def backend_of(connection):
    """How the server calls this connection: it has another name after each reconnect."""
    if connection.vendor == "postgresql":
        return connection.connection.info.backend_pid
    return connection.connection.thread_id() if connection.vendor == "mysql" else None


class Monitor:
    """Asks the server whether a statement waits for a lock: a slow one is not a waiting one."""

    def waits(self, backend):
        with connection.cursor() as cursor:
            return ASKED[connection.vendor](cursor, backend)


def _postgresql_waits(cursor, backend):
    waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    cursor.execute(waiting, [backend])
    return cursor.fetchone() is not None


def _mysql_waits(cursor, backend):
    # Not from innodb_trx: it is only renewed when nobody, on the whole server, has read it for a while.
    cursor.execute("SHOW ENGINE INNODB STATUS")
    transactions = cursor.fetchone()[2].split("---TRANSACTION ")
    return any(f"thread id {backend}," in told and "LOCK WAIT" in told for told in transactions)


ASKED = {"postgresql": _postgresql_waits, "mysql": _mysql_waits}


def is_deadlock(error):
    """Whether the server ended a circle of waiting transactions by this error."""
    code = getattr(error.__cause__, "sqlstate", None) or (error.args or [None])[0]
    return isinstance(error, DatabaseError) and code in ("40P01", 1213)
