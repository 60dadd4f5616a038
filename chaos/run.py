"""A storm from its first pipeline to the verdict."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from django.core.management import call_command
from django.db import connections
from django.db.models import Sum

from chaos import brokers
from chaos.brokers import Thief
from chaos.fleet import Fleet, fleet
from chaos.ledger import account
from chaos.project.models import Pipeline
from chaos.proxy import Proxy
from chaos.servers import Server
from chaos.weather import Weather
from integration.audit import audit
from integration.entries import DatabaseNow, Entry

AUDIT_EVERY = 3.0
DEAF_AFTER = 10.0
OVER = ["complete", "failed"]
POISON = [*[""] * 17, "raises", "exits", "dies"]


def run(
    chosen: argparse.Namespace,
    *,
    servers: dict[str, Server],
    proxies: dict[str, Proxy],
    queue: str,
    logs: Path,
    seed: int,
) -> dict[str, object]:
    """Storm, calm, wait until everything arrived, and count."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    choice = random.Random(seed)
    thief = brokers.thief(servers[chosen.broker], queue)
    try:
        with fleet(logs) as started:
            weather = Weather(
                fleet=started,
                thief=thief,
                proxies=proxies,
                servers=servers,
                choice=choice,
                only=chosen.only,
            )
            try:
                violations = rage(chosen, weather, started, choice)
            finally:
                weather.calm()
            probe = Probe(started, thief)
            drained = drain(chosen, started, probe)
            found = asdict(account(weather.jumps, weather.raw))
            violations += audited(weather)
        figures = told(chosen, weather, started, drained, logs)
        ok = drained is not None and not found["wrong"] and not violations
        ok = ok and found["transitions"] == found["distinct_transitions"] == found["expected_transitions"]
        return {"ok": ok, **figures, "deaf": probe.deaf, **found, "violations": violations}
    finally:
        connections.close_all()
        for proxy in proxies.values():
            proxy.heal()
        with suppress(Exception):  # a queue that was never declared
            thief.clean()


def rage(chosen: argparse.Namespace, weather: Weather, started: Fleet, choice: random.Random) -> list[str]:
    """Begin pipelines and let things go wrong, for as long as was asked; what audits find meanwhile."""
    violations, now = [], time.monotonic()
    end, strike_at, audit_at = now + chosen.seconds, now, now + AUDIT_EVERY
    while now < end:
        begin(chosen.at_once, choice)
        started.keep_running()
        if now >= strike_at:
            weather.strike()
            strike_at = time.monotonic() + choice.expovariate(1 / chosen.every)
        if now >= audit_at:
            violations += audited(weather, calm=False)
            audit_at = time.monotonic() + AUDIT_EVERY
        time.sleep(0.05)
        now = time.monotonic()
    return violations


def begin(at_once: int, choice: random.Random) -> None:
    """Keep so many pipelines under way, a few new ones at a time."""
    under_way = Pipeline.objects.exclude(status__in=OVER).count()
    for _ in range(min(at_once - under_way, 5)):
        Pipeline.objects.create(poison=choice.choice(POISON), to_race=choice.choice([0, 0, 1, 2])).start()


class Probe:
    """Starts workers again that have gone deaf, as a probe in production would.

    Celery's workers on Redis sometimes go on after a lost connection without listening to the queue. That no
    message is taken, while some wait, is not the protocol's fault, and it can do nothing about it.

    Attributes:
        deaf: How often that happened.
    """

    def __init__(self, started: Fleet, thief: Thief) -> None:
        self._started, self._thief = started, thief
        self._seen, self._since = 0, time.monotonic()
        self.deaf = 0

    def look(self) -> None:
        claims = Entry.objects.aggregate(claims=Sum("attempt"))["claims"] or 0
        if claims != self._seen:
            self._seen, self._since = claims, time.monotonic()
        elif time.monotonic() - self._since > DEAF_AFTER and self._thief.waiting():
            self.deaf += 1
            self._since = time.monotonic()
            for worker in self._started.workers:
                worker.kill()


def drain(chosen: argparse.Namespace, started: Fleet, probe: Probe) -> float | None:
    """Wait until every pipeline arrived; how long it took, and None when it took too long."""
    began = time.monotonic()
    while Pipeline.objects.exclude(status__in=OVER).exists():
        if time.monotonic() > began + chosen.drain:
            started.tell_stacks()
            print(json.dumps(standstill(), indent=2, default=str), file=sys.stderr)
            return None
        probe.look()
        started.keep_running()
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def standstill() -> dict[str, object]:
    """What a storm that does not calm down is asked first: what is due, and who waits for whom."""
    pending = Entry.objects.open().exclude(state__in=OVER).annotate(now=DatabaseNow())
    activity = (
        "SELECT pid, state, wait_event, now() - xact_start, query FROM pg_stat_activity WHERE state <> 'idle'"
    )
    with connections["default"].cursor() as cursor:
        cursor.execute(activity)
        return {
            "entries": list(
                pending.values("object", "state", "attempt", "now", "ready_at", "due_at", "worker", "error")
            ),
            "activity": cursor.fetchall(),
        }


def audited(weather: Weather, *, calm: bool = True) -> list[str]:
    """What the library's own audit finds: while the storm lasts, what is due to be repaired is not wrong.

    Nor is the notice of an operator who moved a row from where raw SQL had put it.
    """
    found = [each for each in audit() if calm or each.level == "violation"]
    known = {str(pk) for pk in weather.jumps.keys() & weather.raw.keys()}
    both = ("notice", "source-is-where-it-was")
    return [str(each) for each in found if (each.level, each.invariant) != both or each.object not in known]


def told(
    chosen: argparse.Namespace, weather: Weather, started: Fleet, drained: float | None, logs: Path
) -> dict[str, object]:
    done = weather.done
    return {
        "seconds": chosen.seconds,
        "drained_after": drained,
        "kills": sum(done[name] for name in done if name.startswith("killed")),
        "drops": done["drops"],
        "duplicates": done["duplicates"],
        "cuts": done["cut connections"] + done["lost replies"],
        "restarts": weather.restarted.total(),
        "restarted": dict(weather.restarted),
        "faults": dict(sorted(done.items())),
        "ended_processes": started.deaths,
        "said": dict(said(logs)),
    }


def said(logs: Path) -> Counter[str]:
    """How often the processes logged what only happens in a storm."""
    lines = {
        "failed dispatches": r"Could not send entry .* the storm took it",
        "other failed dispatches": r"Could not send entry (?!.*the storm took it)",
        "lost pool children": r"WorkerLostError|exited with 'signal 9",
    }
    texts = [path.read_text(errors="replace") for path in logs.glob("*.log")]
    return Counter({name: sum(len(re.findall(line, text)) for text in texts) for name, line in lines.items()})
