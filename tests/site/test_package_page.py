"""The page on the package: every room, every module, every public name, once."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import addlib
from workflow.package_page import package_page


def test_every_public_name_of_every_module_stands_on_the_page() -> None:
    page = package_page()
    for module in pkgutil.walk_packages(addlib.__path__, "addlib."):
        if module.ispkg:
            assert f"\n\n{page}".count(f"\n\n## {module.name}\n") == 1
            continue
        section = re.search(rf"^### {re.escape(module.name)}\n(.*?)(?=^##|\Z)", page, re.M | re.S)
        assert section, f"{module.name} has no section"
        loaded = importlib.import_module(module.name)
        for name, member in vars(loaded).items():
            public = inspect.isfunction(member) or inspect.isclass(member)
            if public and member.__module__ == module.name and not name.startswith("_"):
                assert f"\n   {name}\n" in section[1], f"{module.name}.{name}"


def test_every_room_says_in_one_sentence_what_it_is_for() -> None:
    for module in pkgutil.iter_modules(addlib.__path__, "addlib."):
        if module.ispkg:
            sentence = importlib.import_module(module.name).__doc__
            assert sentence and sentence.strip().endswith("."), module.name
