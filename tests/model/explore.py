"""Every reachable world, breadth first, and the shortest way into a wrong one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.model.protocol import Protocol, Step, Violation
from tests.model.world import CLOCKS, World


class Broken(Exception):
    """The rules do not hold: the shortest way there, told as a story."""


@dataclass
class Explored:
    """What was found.

    Attributes:
        worlds: Every reachable world, in the order in which it was found.
        came: For each, the world before it and the step between them.
        steps: How many steps were taken: what the worlds have between them.
    """

    worlds: list[World] = field(default_factory=list)
    came: list[tuple[int, Step | None]] = field(default_factory=list)
    steps: int = 0

    def story(self, number: int, end: str) -> str:
        told = []
        while number >= 0:
            before, step = self.came[number]
            told.append(f"{step or 'it begins'}: {describe(self.worlds[number])}")
            number = before
        told = [f"{place}. {line}" for place, line in enumerate(reversed(told), 1)]
        return "\n".join([*told, f"Then {end}."])


def describe(world: World) -> str:
    row, entry = world.row, world.entry
    where = f"the row in {row.status!r}, epoch {row.epoch}" if row else "no row"
    if entry is None:
        return f"{where}; no open entry"
    step = f", step {entry.step + 1}" if entry.step else ""
    rung = ", a message" if world.bag else ""
    return (
        f"{where}; entry {entry.id} for {entry.state!r}, epoch {entry.epoch}{step}, attempt {entry.attempt}, "
        f"strikes {entry.strikes}, {CLOCKS[entry.clock]}{', held' if entry.held else ''}{rung}"
    )


def explore(protocol: Protocol, *, most: int = 2_000_000) -> Explored:
    """Find every world, check each, and whether each can come to rest with the faults off.

    Raises:
        Broken: An invariant does not hold, or a world can never come to rest.
    """
    found = Explored()
    numbers: dict[World, int] = {}
    calm: list[list[int]] = []  # for each world, those from which a step without a fault leads to it

    def meet(world, before, step):
        number = numbers.get(world)
        if number is None:
            number = numbers[world] = len(numbers)
            found.worlds.append(world)
            found.came.append((before, step))
            calm.append([])
        return number

    def checked(after, step):
        try:
            return protocol.check(after)
        except Violation as violation:
            raise Violation(f"{step}, and {violation}") from None

    known: dict[World, int] = {}  # worlds as steps leave them, so that each is checked once
    for world in protocol.begin():
        meet(world, -1, None)
    number = 0
    while number < len(found.worlds):
        world = found.worlds[number]
        try:
            for step, after in protocol.successors(world):
                reached = known.get(after)
                if reached is None:
                    reached = known[after] = meet(checked(after, step), number, step)
                if not step.fault:
                    calm[reached].append(number)
                found.steps += 1
        except Violation as violation:
            raise Broken(found.story(number, str(violation))) from None
        number += 1
        if number > most:
            raise OverflowError(f"more than {most} worlds")
    _all_come_to_rest(protocol, found, calm)
    return found


def _all_come_to_rest(protocol: Protocol, found: Explored, calm: list[list[int]]) -> None:
    """AG EF rest, over the steps without a fault: backward reachability (Clarke, Emerson, Sistla 1986)."""
    todo = [number for number, world in enumerate(found.worlds) if protocol.rests(world)]
    resting = set(todo)
    while todo:
        for before in calm[todo.pop()]:
            if before not in resting:
                resting.add(before)
                todo.append(before)
    stuck = next((number for number in range(len(found.worlds)) if number not in resting), None)
    if stuck is not None:
        raise Broken(found.story(stuck, "nothing but a person or a fault can move it any more"))
