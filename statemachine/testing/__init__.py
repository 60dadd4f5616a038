"""Tests that are generated from the declaration: every legal walk, the way to a state, a cover of all edges.

A guard is a free choice here: a walk takes an edge whether or not a row's guards would let it pass. What is
behind an unguarded edge of the same trigger is never taken, and is never walked. Only `walks` needs
Hypothesis, when it is called.
"""

from statemachine.testing.covering import covering_paths
from statemachine.testing.routes import paths
from statemachine.testing.walking import walks

__all__ = ["covering_paths", "paths", "walks"]
