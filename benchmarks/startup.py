"""How long ``ganfleet --help`` takes, as a ratio to ``python -c pass``; the two take turns.

python benchmarks/startup.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "ganfleet --help": [str(Path(sys.executable).parent / "ganfleet"), "--help"],
}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    seconds = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:16} {1000 * median:6.0f} ms")
    print(f"ratio            {medians['ganfleet --help'] / medians['python -c pass']:6.1f}")


if __name__ == "__main__":
    main()
