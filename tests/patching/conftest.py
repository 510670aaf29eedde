"""What several files of tests on patching use."""

import pytest

from addlib.patching.suffix_forward import ShortForward


@pytest.fixture
def through_hooks(monkeypatch):
    """No model fits the short forward."""

    def refuse(*_):
        raise NotImplementedError("not this one")

    monkeypatch.setattr(ShortForward, "check", refuse)
    with pytest.warns(UserWarning, match="through hooks"):
        yield
