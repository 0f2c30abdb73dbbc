"""This machine's C++ compiler."""

import os
import shlex
import shutil


class NoCompiler(Exception):
    """There is none; the message says what to do."""


def cxx() -> list[str]:
    """The command that compiles C++: what CXX names, with its options, or the first that is found.

    Raises:
        NoCompiler: CXX names what is not there, or there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named and not shutil.which(named[0]):
        raise NoCompiler(f"CXX names {named[0]}, which is not there: correct CXX, or unset it")
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    if not named and not found:
        raise NoCompiler("no C++ compiler is found: install g++, or name one in CXX")
    return named or [found]
