"""The storm: real workers and sweepers, and everything that can go wrong while they work.

``python -m chaos --seconds 60 --broker redis --json storm.json``. It starts servers of its own where it can,
stops what it started, by process id, and leaves nothing behind.
"""
