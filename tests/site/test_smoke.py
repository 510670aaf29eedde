"""Every chapter runs with smoke parameters, and the site is built from these runs."""

from __future__ import annotations
