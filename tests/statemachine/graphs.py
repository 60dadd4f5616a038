"""Any graph there can be, for Hypothesis."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from statemachine.enqueue import Enqueue
from statemachine.graph import Edge, Graph, StateValue
from statemachine.logic import AG, AU, IN_THE_END, Not, Property, false, state, true

__all__ = ["graphs", "kwargs", "steps"]

words = st.text(min_size=1, max_size=6)
texts = st.text(max_size=6)
few = {"max_size": 3}
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | numbers | texts
values = st.recursive(plain, lambda inner: st.lists(inner, **few).map(tuple), max_leaves=5)
kwargs = st.dictionaries(texts, values, **few)
positive = st.timedeltas(min_value=timedelta(microseconds=1))


@st.composite
def named(draw: st.DrawFn, name: st.SearchStrategy[str]) -> tuple[str, tuple[str, ...]]:
    """A name, and former ones."""
    today, *former = draw(st.lists(name, min_size=1, max_size=3, unique=True))
    return today, tuple(former)


@st.composite
def steps(draw: st.DrawFn) -> Enqueue:
    task, formerly = draw(named(words))
    return Enqueue(
        task,
        kwargs=draw(kwargs),
        lease=draw(st.none() | positive),
        max_attempts=draw(st.none() | st.integers(min_value=1)),
        backoff=draw(st.none() | positive),
        max_runtime=draw(positive),
        queue=draw(st.none() | words),
        priority=draw(st.none() | st.integers(min_value=0)),
        formerly=formerly,
    )


@st.composite
def states(draw: st.DrawFn, name: str, formerly: tuple[str, ...]) -> StateValue:
    return StateValue(
        name=name,
        label=draw(texts),
        tags=tuple(draw(st.lists(texts, **few))),
        phase=draw(st.none() | texts),
        final=draw(st.booleans()),
        waits_for=draw(texts),
        after=draw(st.none() | st.tuples(st.timedeltas(), words)),
        done=draw(st.just("advance") | texts),
        failed=draw(st.just("fail") | texts),
        stamps=draw(texts),
        steps=tuple(draw(st.lists(steps(), max_size=2))),
        formerly=formerly,
    )


@st.composite
def edges(draw: st.DrawFn, names: list[str]) -> Edge:
    return Edge(
        trigger=draw(words),
        source=draw(st.sampled_from(names)),
        dest=draw(st.sampled_from(names)),
        guards=tuple(draw(st.lists(words, **few))),
        internal=draw(st.booleans()),
        writes=tuple(draw(st.lists(words, **few))),
        wildcard=draw(st.booleans()),
    )


@st.composite
def properties(draw: st.DrawFn, names: list[str], triggers: list[str]) -> Property:
    formulas = st.recursive(
        st.sampled_from([true, false, *map(state, names)]),
        lambda inner: st.builds(AG, inner) | st.builds(Not, inner) | st.builds(AU, inner, inner),
        max_leaves=3,
    )
    fair = st.none() | st.just(IN_THE_END)
    if triggers:
        fair |= st.lists(st.sampled_from(triggers), **few).map(tuple)
    return Property(draw(formulas), name=draw(texts), fair=draw(fair))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    pool = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    names, former = pool[: (len(pool) + 1) // 2], pool[(len(pool) + 1) // 2 :]
    declared = [
        draw(states(name, formerly=(former[index],) if index < len(former) and draw(st.booleans()) else ()))
        for index, name in enumerate(names)
    ]
    drawn = draw(st.lists(edges(names), max_size=5))
    tags = sorted({tag for state in declared for tag in state.tags})
    promises = properties(names, [edge.trigger for edge in drawn])
    return Graph(
        name=draw(texts),
        states=tuple(declared),
        edges=tuple(drawn),
        initial=draw(st.sampled_from(names)),
        goals=tuple(draw(st.lists(st.sampled_from(names), max_size=2))),
        keeps=tuple(draw(st.lists(st.sampled_from(tags), unique=True))) if tags else (),
        properties=tuple(draw(st.lists(promises, max_size=2, unique_by=lambda p: p.title))),
    )
