"""What this shell says about ranks: left-over variables of a launcher, and a rank table."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from ganfleet.doctor.finding import Finding, failure, ok, warning
from ganfleet.fleet import launcher

TABLE = "RANK_TABLE_FILE"
SIGNS = ("MS_ROLE", *(size for size, _ in launcher.MPI_VARIABLES))  # each makes a process a rank
# Which msrun and ``ganfleet train --workers`` set for their ranks beside it.
LEFT_OVER = ("MS_SCHED_HOST", "MS_SCHED_PORT", "MS_WORKER_NUM", "MS_NODE_ID", "RANK_ID", "RANK_SIZE", "DEVICE_ID")


def check() -> Iterator[Finding]:
    wrong = launcher.contradiction()
    if wrong:
        yield failure(str(wrong), f"unset {' '.join(name for name in SIGNS if name in os.environ)}")
    left = [name for name in LEFT_OVER if name in os.environ]
    if left:
        yield warning(
            f"a launcher, or a script for one, has left {', '.join(left)} in this shell", f"unset {' '.join(left)}"
        )
    path = os.environ.get(TABLE)
    if path is None:
        yield ok("no rank table: msrun needs none")
        return
    wrong = _wrong(Path(path)) if path else "it names no file"
    if wrong:
        yield failure(f"{TABLE} is {path!r}: {wrong}", f"unset {TABLE}")
    else:
        yield warning(f"{TABLE} is set: HCCL takes its ranks from {path} and not from msrun", f"unset {TABLE}")


def _wrong(path: Path) -> str | None:
    """What is wrong with the rank table at ``path``, of versions 1.0 and 1.2 (Huawei's description of hccl.json)."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return "it is no regular file"
        table = json.loads(path.read_text(encoding="utf-8"))
        servers = table["server_list"]
        devices = [device for server in servers for device in server["device"]]
        ranks = sorted(int(device["rank_id"]) for device in devices)
        addresses = [device["device_ip"] for device in devices if device.get("device_ip")]
        count = int(table.get("server_count", len(servers)))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except ValueError as error:
        return f"it is no JSON, or a number in it is none ({error})"
    except KeyError as error:
        return f"it is no rank table: {error} is missing"
    except (TypeError, AttributeError):
        return "it is no rank table: it has another form"
    if table.get("status", "completed") != "completed":
        return f"its status is {table['status']!r}, so it is not finished"
    if count != len(servers):
        return f"server_count is {count}, but {len(servers)} servers are listed"
    if ranks != list(range(len(ranks))):
        return f"its ranks are {', '.join(map(str, ranks))}: expected 0 to {len(ranks) - 1}, each once"
    for address in addresses:
        try:
            ip_address(address)
        except ValueError:
            return f"device_ip {address!r} is no address"
    doubled = [address for address, times in Counter(addresses).items() if times > 1]
    if doubled:
        return f"two cards have the device_ip {doubled[0]}"
    return None
