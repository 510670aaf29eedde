"""Every chapter runs with smoke parameters, and the site is built from these runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import run_smoke
from runs import SmokeRuns
from workflow.chapters import chapters
