"""Declares a graph with python-statemachine and has it checked; run by a Python of its own.

Its import package has the name of ours, so the two cannot be in one process. It is told the states and
edges on its first line, then answers line by line; see `benchmarks.contenders.Pipe`.
"""

import gc
import json
import sys
from time import perf_counter, process_time

from statemachine import State, StateChart


def declared(graph):
    """A class, which checks itself when it is made: unreachable, dead and hopeless states are refused."""
    states = {
        name: State(name, initial=name == graph["initial"], final=name in graph["final"])
        for name in graph["states"]
    }
    triggers = {}
    for trigger, source, dest in graph["edges"]:
        transition = states[source].to(states[dest])
        triggers[trigger] = triggers[trigger] | transition if trigger in triggers else transition
    return type("Pipeline", (StateChart,), {**states, **triggers, "__module__": __name__})


def timed(call, number):
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    for _ in range(number):
        call()
    return {"wall": (perf_counter() - wall) / number, "cpu": (process_time() - cpu) / number}


def main():
    graph = json.loads(sys.stdin.readline())
    made = declared(graph)
    calls = {"check": made._check, "declare": lambda: declared(graph)}
    print(json.dumps("declared"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "sample" in asked:
            answer = timed(calls[asked["sample"]], asked["number"])
        else:
            answer = None
            calls[asked["answer"]]()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
