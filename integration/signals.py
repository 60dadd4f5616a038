"""For those who listen rather than declare.

``transitioned`` is sent inside the transaction, after the callbacks: a receiver that raises undoes the
transition. ``entered`` is sent after the commit, robustly: a receiver that raises is logged.

Both send ``row``, ``field``, ``trigger``, ``source``, ``state`` and ``entry``, the entry's id.
"""

from django.dispatch import Signal

__all__ = ["entered", "transitioned"]

transitioned = Signal()
entered = Signal()
