"""Crashes everywhere: each call of the API is struck at every statement, commit, publish, acknowledgement.

`actor` is the process that is struck, `broker` what carries its messages, `calls` what it does, `story` what
must hold afterwards, and `matrix` tries it all.
"""

from tests.integration.crash.calls import CALLS
from tests.integration.crash.matrix import come_to_rest, run_matrix

__all__ = ["CALLS", "come_to_rest", "run_matrix"]
