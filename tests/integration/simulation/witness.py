"""What is true of rows and entries at every moment, read from outside by plain SQL.

It looks after each step of the actors, so between two looks there is at most one commit.
"""

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from django.db import connection

from tests.papers.machine import review

EDGES = {(edge.source, edge.trigger, edge.dest) for edge in review.graph.edges}
STATES = review.graph.by_name
JUMPS = {"to_state", "adopted"}
MAX = {"papers.check": 3}

ENTRIES = """
    SELECT id, object, epoch, step, "trigger", source, state, task, attempt, strikes, due_at,
           worker, error, left_at, "open"
    FROM statemachine_entry WHERE model = 'papers.paper' ORDER BY object, epoch, step
"""
ROWS = "SELECT id, status, status_epoch FROM papers_paper"
REMARKS = "SELECT text FROM papers_remark"


class Seen(NamedTuple):
    """An entry, as it is committed."""

    id: int
    object: str
    epoch: int
    step: int
    trigger: str
    source: str
    state: str
    task: str
    attempt: int
    strikes: int
    due_at: object
    worker: str
    error: str
    left_at: object
    open: object


class Violation(AssertionError):
    """An invariant does not hold."""


def check(holds, what, *about):
    if not holds:
        raise Violation(" ".join(map(str, (what, *about))))


@dataclass(frozen=True)
class Attempt:
    """What one claim of one entry is told apart by."""

    entry: int
    number: int

    @property
    def text(self):
        return f"{self.entry}.{self.number}"


class Witness:
    """Looks at the database, and keeps what it saw and what the actors told it."""

    def __init__(self):
        self.entries, self.rows, self.remarks = {}, {}, set()
        self.ever, self.started, self.bare = set(), set(), set()
        self.given_back, self.waited = defaultdict(int), defaultdict(int)
        self.accepted, self.over, self.beginning, self.rung = [], [], [], []
        self.foreign, self.meddling, self.reborn = set(), set(), {}

    # What actors tell

    def begins(self, attempt):
        check(attempt not in self.started, "A body began twice in one attempt:", attempt)
        self.started.add(attempt)
        self.beginning.append(attempt)

    @contextmanager
    def foreign_write(self, pk):
        """What is written to a row in this block is for the next adoption to repair."""
        self.meddling.add(pk)
        try:
            yield
        finally:
            self.foreign.add(pk)
            self.meddling.discard(pk)

    def _is_foreign(self, pk):
        return pk in self.foreign or pk in self.meddling

    # What is looked at

    def look(self, *, alone=True):
        """Check everything that the database shows.

        Args:
            alone: Whether there was at most one commit since the last look.
        """
        quote = connection.ops.quote_name
        with connection.cursor() as cursor:
            cursor.execute(ENTRIES.replace('"open"', quote("open")).replace('"trigger"', quote("trigger")))
            entries = {row[0]: Seen(*row) for row in cursor.fetchall()}
            cursor.execute(ROWS)
            rows = {pk: (status, epoch) for pk, status, epoch in cursor.fetchall()}
            cursor.execute(REMARKS)
            remarks = {text for (text,) in cursor.fetchall()}
        self.ever |= entries.keys()
        self.foreign &= rows.keys()
        self._check_what_was_told(entries, alone)
        if alone:
            self._check_moves(entries, rows)
        for pk, chain in self._chains(entries).items():
            self._check_chain(pk, chain, rows.get(pk))
        for pk in rows.keys() - {int(entry.object) for entry in entries.values()}:
            check(self._is_foreign(pk), "A row has no entry:", pk)
        self._check_left(entries)
        self._check_remarks(entries, remarks)
        self.entries, self.rows, self.remarks = entries, rows, remarks

    @staticmethod
    def _chains(entries):
        chains = defaultdict(list)
        for entry in entries.values():
            chains[int(entry.object)].append(entry)
        return chains

    def _check_what_was_told(self, entries, alone):
        for entry in self.rung:
            check(entry in self.ever, "A message was sent for an entry that is not committed:", entry)
        for attempt in self.beginning:
            entry = entries.get(attempt.entry)
            committed = entry is None or entry.attempt >= attempt.number
            check(
                committed and attempt.entry in self.ever, "A body began without a committed claim:", attempt
            )
        for attempt in self.accepted if alone else ():
            entry = entries.get(attempt.entry)
            current = entry is not None and entry.attempt == attempt.number
            check(current, "A write of a superseded token was accepted:", attempt, entry)
        for attempt in self.over:
            entry = entries.get(attempt.entry)
            holds = entry is not None and entry.open and entry.worker and entry.attempt == attempt.number
            check(not holds, "A runner went away from what it holds:", attempt, entry)
        self.accepted, self.over, self.beginning, self.rung = [], [], [], []

    def _check_moves(self, entries, rows):
        """A row moves only from where it was, whoever moved it there."""
        opened = {int(entry.object): entry for entry in entries.values() if entry.open}
        for pk, (status, epoch) in rows.items():
            before = self.rows.get(pk)
            if before in (None, (status, epoch)):
                continue
            if before[1] == epoch:
                check(self._is_foreign(pk), "A row moved, and its epoch did not:", pk, before, status)
                continue
            entry = opened.get(pk)
            check(entry is not None and entry.epoch == epoch, "A row moved without its entry:", pk, entry)
            source = entry.state if entry.trigger == "adopted" else entry.source
            check(
                source == before[0] or entry.trigger == "created", "A move was from elsewhere:", before, entry
            )

    def _check_chain(self, pk, chain, row):
        opened = [entry for entry in chain if entry.open]
        check(len(opened) <= 1, "Two entries are open:", *opened)
        for entry in chain:
            self._check_entry(entry)
        for entry, following in pairwise(chain):
            self._check_following(entry, following)
        check(chain[0].trigger in ("created", "adopted"), "A history begins in the middle:", chain[0])
        agrees = row is None or (bool(opened) and (opened[0].state, opened[0].epoch) == row)
        if agrees and row is not None and STATES[row[0]].works:
            agrees = bool(opened[0].task)
        if agrees:
            self.foreign.discard(pk)
        check(agrees or self._is_foreign(pk), "A row and its entry disagree:", pk, row, *opened)

    def _check_entry(self, entry):
        check((entry.left_at is None) == bool(entry.open), "Open or left?", entry)
        check(entry.open or entry.due_at is None, "An entry that was left is due:", entry)
        check(entry.strikes <= min(entry.attempt, MAX.get(entry.task, 5)), "Too many strikes:", entry)
        pending = bool(entry.task or STATES[entry.state].after)
        armed = entry.due_at is not None
        check(
            not entry.open or pending == armed or (entry.error and not armed),
            "Not armed, or needlessly:",
            entry,
        )

    def _check_following(self, entry, following):
        check(not entry.open, "An entry is open that another one follows:", entry, following)
        if following.trigger == "step":
            same = (entry.epoch, entry.step + 1, entry.state, entry.state)
            check(
                (following.epoch, following.step, following.state, following.source) == same,
                "A step:",
                following,
            )
            return
        at_once = following.epoch == entry.epoch + 1
        higher = following.trigger in {*JUMPS, "created"} and following.epoch > entry.epoch
        check(at_once or higher, "The epoch did not move by one:", entry, following)
        declared = (following.source, following.trigger, following.state) in EDGES
        audited = following.trigger in {*JUMPS, "created"}
        check(audited or (declared and following.source == entry.state), "Not an edge:", entry, following)

    def _check_left(self, entries):
        for entry in self.entries.values():
            now = entries.get(entry.id, entry)
            check(entry.open or now == entry, "An entry changed after it was left:", entry, now)
            check(now.attempt >= entry.attempt, "An attempt was given back:", entry, now)
        starts = defaultdict(int)
        for attempt in self.started:
            starts[attempt.entry] += 1
        for pk, begun in starts.items():
            entry = entries.get(pk)
            counted = entry is None or entry.strikes >= begun - self.given_back[pk]
            check(counted, "A body ran without a strike:", entry, begun)
            free = entry is None or entry.strikes + self.waited[pk] <= entry.attempt
            check(free, "A wait cost a strike:", entry)

    def _check_remarks(self, entries, remarks):
        """What a stage wrote is there if and only if it ended, and by the attempt that held it then."""
        expected, possible = set(), set()
        for pk, chain in self._chains(entries).items():
            for entry, following in pairwise(chain):
                attempt = Attempt(entry.id, entry.attempt)
                if not entry.task or following.trigger not in ("advance", "step"):
                    continue
                if attempt in self.bare:
                    continue
                possible.add(attempt.text)
                if entry.id > self.reborn.get(pk, 0):
                    expected.add(attempt.text)
        check(expected <= remarks, "A stage ended, and its writes are gone:", expected - remarks)
        check(remarks <= possible, "Writes are there of a stage that did not end so:", remarks - possible)
