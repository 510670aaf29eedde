"""With this folder on PYTHONPATH a notebook's kernel has a GPU: tests/pretend_gpu.py."""

from __future__ import annotations

import sys
from contextlib import ExitStack

ENDLESS = ExitStack()

if any("ipykernel" in argument for argument in sys.orig_argv):
    from pretend_gpu import pretend_gpu

    ENDLESS.enter_context(pretend_gpu())
