"""Makes pymumble's ``mumble_pb2`` module for current versions of protobuf.

pymumble ships code generated for a protobuf of 2020, which current versions run only with the parser in
Python. The definitions in it are the protocol's, so the fast parser makes the same classes of them.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from google.protobuf import descriptor_pool, message_factory

NAME = "pymumble_py3.mumble_pb2"


def install() -> None:
    """Put the module in place of pymumble's own; before pymumble is imported."""
    if NAME in sys.modules:
        return
    found = importlib.util.find_spec("pymumble_py3")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("pymumble is not installed")
    text = Path(found.origin).with_name("mumble_pb2.py").read_text()
    literal = re.search(r"serialized_pb=(b'.*')", text)
    if literal is None:
        raise ImportError(f"{found.origin}: no serialized_pb beside it")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(ast.literal_eval(literal[1]))
    module = ModuleType(NAME)
    classes = message_factory.GetMessageClassesForFiles(["Mumble.proto"], pool)
    for name, made in classes.items():
        setattr(module, name.rpartition(".")[2], made)
    sys.modules[NAME] = module
