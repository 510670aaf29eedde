"""With this folder on PYTHONPATH one thing in addlib is wrong: the one that ADDLIB_WRONG names."""

from __future__ import annotations

import os

from wrong import FAULTS, install

install(FAULTS[os.environ["ADDLIB_WRONG"]])
