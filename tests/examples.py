"""The code of the pages in ``docs/examples``, for the tests that run it."""

import re
from pathlib import Path
from types import SimpleNamespace

EXAMPLES = Path(__file__).resolve().parents[1] / "docs/examples"


def code_of(page):
    """What the blocks of a page define, but for its sessions."""
    blocks = re.findall(r"^```python\n(.*?)^```", (EXAMPLES / page).read_text(), re.MULTILINE | re.DOTALL)
    names = {"__name__": page}
    for block in blocks:
        if ">>>" not in block:
            exec(compile(block, page, "exec"), names)
    return SimpleNamespace(**names)
