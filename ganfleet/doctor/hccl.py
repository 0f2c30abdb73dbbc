"""HCCL's environment variables: a wrong value makes ranks wait for each other, and then end, minutes later."""

import os
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches

import psutil

from ganfleet.doctor.finding import Finding, failure, ok, warning

PORTS = 32  # that HCCL takes from HCCL_IF_BASE_PORT on


def between(low: int, high: int) -> Callable[[str], str | None]:
    def wrong(value: str) -> str | None:
        return None if value.isdecimal() and low <= int(value) <= high else f"expected a number from {low} to {high}"

    return wrong


def one_of(*values: str) -> Callable[[str], str | None]:
    return lambda value: None if value in values else f"expected {', '.join(values)}"


def address(value: str) -> str | None:
    mine = sorted(
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if "." in each.address
    )
    return None if value in mine else f"expected an address of this machine: {', '.join(mine)}"


def interfaces(value: str) -> str | None:
    """``=eth0``, ``eth,enp`` or ``^docker``: exact names, beginnings, and whose beginnings are left out."""
    here = sorted(psutil.net_if_addrs())
    match = re.fullmatch(r"(\^=|\^|=)?([\w.:,-]+)", value)
    if not match:
        return "expected =eth0, eth,enp or ^docker"
    sign, names = match[1] or "", match[2].split(",")
    fits = (lambda name: name in names) if "=" in sign else (lambda name: name.startswith(tuple(names)))
    found = any(fits(name) != ("^" in sign) for name in here)
    return None if found else f"expected an interface of this machine: {', '.join(here)}"


def port_ranges(value: str) -> str | None:
    """``60000-60050,61000-61050``"""
    ranges = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in value.split(",")]
    right = all(each and 1024 <= int(each[1]) <= int(each[2] or each[1]) <= 65535 for each in ranges)
    return None if right or value == "auto" else "expected ports from 1024 to 65535, such as 61000-61050"


VARIABLES = {
    "HCCL_CONNECT_TIMEOUT": between(120, 7200),
    "HCCL_EXEC_TIMEOUT": between(0, 2147483647),
    "HCCL_BUFFSIZE": between(1, 1 << 20),
    "HCCL_DETERMINISTIC": one_of("false", "true", "strict"),
    "HCCL_IF_IP": address,
    "HCCL_SOCKET_IFNAME": interfaces,
    "HCCL_IF_BASE_PORT": between(1024, 65536 - PORTS),
    "HCCL_NPU_SOCKET_PORT_RANGE": port_ranges,
    "HCCL_HOST_SOCKET_PORT_RANGE": port_ranges,
    "HCCL_WHITELIST_DISABLE": one_of("0", "1"),
    "TE_PARALLEL_COMPILER": between(1, 32),
}


def check() -> Iterator[Finding]:
    wrong = [
        failure(f"{name} is {os.environ[name]!r}: {problem}", f"unset {name}")
        for name, problem_of in VARIABLES.items()
        if name in os.environ and (problem := problem_of(os.environ[name]))
    ]
    if os.environ.get("HCCL_WHITELIST_DISABLE") == "0":
        path = os.environ.get("HCCL_WHITELIST_FILE")
        if path is None or not os.path.isfile(path):
            named = f"is {path}, which is no file" if path else "is not set"
            wrong.append(
                failure(
                    f"HCCL_WHITELIST_DISABLE is 0, and HCCL_WHITELIST_FILE {named}",
                    "unset HCCL_WHITELIST_DISABLE",
                )
            )
    for name in os.environ:
        near = get_close_matches(name, VARIABLES, 1, 0.85) if name.startswith("HC") and name not in VARIABLES else []
        if near:
            wrong.append(warning(f"HCCL knows no variable {name}", f"unset {name}; did you mean {near[0]}?"))
    in_force = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    yield from wrong or [ok(f"{', '.join(in_force)}: right" if in_force else "none of HCCL's variables is set")]
