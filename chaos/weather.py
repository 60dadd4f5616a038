"""The faults: a method each, chosen at random and done one by one, so that what was done is known."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from django.db import connection, transaction

from chaos.brokers import Thief
from chaos.fleet import Fleet
from chaos.project.machine import storm
from chaos.project.models import Pipeline
from chaos.proxy import Proxy
from chaos.servers import OwnServer, Server
from integration.conf import conf
from statemachine import StaleState

REPLIES = [b"COMMIT\0", b"UPDATE 1\0", b"INSERT 0 1\0"]
WORKING = [state.name for state in storm.graph.states if not state.final and state.name != "created"]
# Where a pipeline may be put by hand, of whatever kind it is.
EARLY = ["fetching", "parsing", "resting", "brooding"]


class Weather:
    """Everything that goes wrong, and how often it did.

    Attributes:
        done: How often each fault happened, by its name.
        disturbed: The pipelines that were moved by hand or by raw SQL, with how often by each.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        thief: Thief,
        proxies: dict[str, Proxy],
        servers: dict[str, Server],
        choice: random.Random,
        only: Sequence[str] | None = None,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.restarted: Counter[str] = Counter()
        self.jumps: Counter[int] = Counter()
        self.raw: Counter[int] = Counter()
        self._fleet, self._thief, self._choice = fleet, thief, choice
        self._proxies, self._servers = proxies, servers
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._faults: dict[Callable[[], None], int] = {
            self.kill_child: 8,
            self.kill_worker: 2,
            self.kill_parent: 1,
            self.kill_sweeper: 1,
            self.freeze: 5,
            self.drop: 12,
            self.double: 12,
            self.cut: 4,
            self.take_down: 2,
            self.hold: 2,
            self.lose_reply: 4,
            self.jump: 3,
            self.update_raw: 3,
            self.restart: 1,
        }

        if only:
            self._faults = {getattr(self, name): 1 for name in only}

    def strike(self) -> None:
        """Let one thing go wrong, and what is over go right again."""
        self._pass(time.monotonic())
        faults, weights = zip(*self._faults.items(), strict=True)
        self._choice.choices(faults, weights)[0]()

    def calm(self) -> None:
        """Let everything go right again."""
        self._pass(float("inf"))
        for proxy in self._proxies.values():
            proxy.heal()
        self.done["lost replies"] = sum(proxy.lost for proxy in self._proxies.values())

    def _pass(self, now: float) -> None:
        over = [heal for at, heal in self._later if at <= now]
        self._later = [(at, heal) for at, heal in self._later if at > now]
        for heal in over:
            heal()

    def _in_a_while(self, least: float, most: float, heal: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + self._choice.uniform(least, most), heal))

    # Processes

    def kill_child(self) -> None:
        child = self._fleet.pool_child()
        if child is not None and self._fleet.signal(child, signal.SIGKILL):
            self.done["killed children"] += 1

    def kill_worker(self) -> None:
        self._kill(orphan=False)

    def kill_parent(self) -> None:
        """Its children go on with what they do, and end when they notice."""
        self._kill(orphan=True)

    def _kill(self, *, orphan: bool) -> None:
        up = self._fleet.workers
        if len(up) > 1:  # or none would ever work: starting one takes longer than the wait for the next kill
            self._choice.choice(up).kill(orphan=orphan)
            self.done["killed parents" if orphan else "killed workers"] += 1

    def kill_sweeper(self) -> None:
        for member in self._fleet.sweepers:
            member.kill()
            self.done["killed sweepers"] += 1

    def freeze(self) -> None:
        """A process stands still for longer than its lease, and wakes as if nothing had happened."""
        parents = [member.pid for member in self._fleet.workers]
        children = [child for child in [self._fleet.pool_child()] if child is not None]
        if not parents:
            return
        pid = self._choice.choice(children * 3 + parents)
        if self._fleet.signal(pid, signal.SIGSTOP):
            lease = conf().lease.total_seconds()
            self._in_a_while(1.2 * lease, 3 * lease, lambda: self._fleet.signal(pid, signal.SIGCONT))
            self.done["frozen"] += 1

    # Messages

    def drop(self) -> None:
        self.done["drops"] += self._thief.drop()

    def double(self) -> None:
        self.done["duplicates"] += self._thief.double()

    # Connections and servers

    def _proxy(self) -> Proxy:
        return self._choice.choice(list(self._proxies.values()))

    def cut(self) -> None:
        self.done["cut connections"] += self._proxy().cut()

    def take_down(self) -> None:
        proxy = self._proxy()
        self.done["cut connections"] += proxy.go_down()
        self.done["outages"] += 1
        self._in_a_while(0.3, 2, proxy.heal)

    def hold(self) -> None:
        proxy = self._proxy()
        proxy.hold()
        self.done["black holes"] += 1
        self._in_a_while(0.3, 3, proxy.heal)

    def lose_reply(self) -> None:
        self._proxies["database"].lose_reply(self._choice.choice(REPLIES))

    def restart(self) -> None:
        own = [name for name, server in self._servers.items() if isinstance(server, OwnServer)]
        if own:
            name = self._choice.choice(own)
            self._servers[name].crash()
            self.restarted[name] += 1
            connection.close()

    # Rows

    def _row(self) -> Pipeline | None:
        rows = list(Pipeline.objects.filter(status__in=WORKING)[:50])
        return self._choice.choice(rows) if rows else None

    def jump(self) -> None:
        """An operator puts a row somewhere else."""
        row = self._row()
        if row is not None:
            try:
                storm.to_state(row, self._choice.choice(EARLY), reason="the storm", by="chaos")
            except StaleState:
                return
            self.jumps[row.pk] += 1

    def update_raw(self) -> None:
        """Somebody writes the status by SQL, behind everybody's back."""
        row = self._row()
        state = self._choice.choice(EARLY)
        if row is None:
            return
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "UPDATE chaos_pipeline SET status = %s WHERE id = %s AND status = %s AND status <> %s",
                [state, row.pk, row.status, state],
            )
            self.raw[row.pk] += cursor.rowcount
