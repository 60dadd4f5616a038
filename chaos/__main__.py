"""``python -m chaos``: brew a storm, sit it out, and say whether anything was lost or done twice."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from chaos import servers


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--seconds", type=float, default=60, help="How long the storm lasts.")
    parser.add_argument("--broker", choices=["redis", "amqp"], default="redis")
    parser.add_argument("--json", type=Path, metavar="PATH", help="Where to write the figures.")
    parser.add_argument("--drain", type=float, default=180, help="How long calm may take to set in, at most.")
    parser.add_argument("--at-once", type=int, default=30, help="Pipelines under way at the same time.")
    parser.add_argument("--every", type=float, default=0.25, help="Seconds between two faults.")
    parser.add_argument("--seed", type=int, help="Of the choice of faults; what they hit is up to the clock.")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="Of all faults these, by their methods.")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="Keep what the processes write.")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the storm; 0 when everything arrived and nothing happened twice."""
    chosen = options(arguments)
    signal.signal(signal.SIGTERM, end)
    with ExitStack() as stack:
        figures = storm(chosen, stack)
    print(json.dumps(figures, indent=2))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["ok"] else 1


def keep(logs: Path, folder: Path) -> None:
    for log in logs.glob("*.log"):
        shutil.copy(log, folder)


def end(*_: object) -> None:
    """Whoever ends the storm, what it started is ended too; and asking twice does not hurry that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("The storm was ended before its time.")


def storm(chosen: argparse.Namespace, stack: ExitStack) -> dict[str, object]:
    from chaos.proxy import Proxy

    logs = stack.enter_context(servers.folder(None))
    database = stack.enter_context(servers.postgresql())
    broker = stack.enter_context(servers.redis() if chosen.broker == "redis" else servers.amqp())
    url = stack.enter_context(servers.database(database))
    proxies = {
        "database": stack.enter_context(closing(Proxy(*database.address))),
        "broker": stack.enter_context(closing(Proxy(*broker.address))),
    }
    queue = f"onward-chaos-{os.getpid()}"
    seed = random.randrange(10_000) if chosen.seed is None else chosen.seed
    os.environ.update(
        DJANGO_SETTINGS_MODULE="chaos.project.settings",
        CHAOS_DATABASE_URL=url,
        CHAOS_BROKER_URL=servers.through(broker.url, proxies["broker"].port),
        CHAOS_QUEUE=queue,
    )
    import django

    django.setup()
    # The storm itself looks at the database without the proxy, so that it knows what it did.
    os.environ["CHAOS_DATABASE_URL"] = servers.through(url, proxies["database"].port)
    from chaos.run import run

    if chosen.logs:
        chosen.logs.mkdir(parents=True, exist_ok=True)
        stack.callback(keep, logs, chosen.logs)
    began = time.monotonic()
    figures = run(
        chosen,
        servers={"postgresql": database, chosen.broker: broker},
        proxies=proxies,
        queue=queue,
        logs=logs,
        seed=seed,
    )
    return {"broker": chosen.broker, "seed": seed, **figures, "lasted": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    sys.exit(main())
