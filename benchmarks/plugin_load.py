"""What the plugin costs a pytest run that does not use it: paired difference of whole processes, in turn.

    python -m benchmarks.plugin_load [PAIRS]

Each pair runs an empty collection once without the plugin and once with it, in alternating order; the median of the
differences is printed with the range that holds it at 95 % (order statistics, no assumption on the noise). Both sides
look up the installed plugins, as every pytest run does; other plugins are blocked by name, and in one side ours is too.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points

LIMIT_MS = 10.0
OTHERS = sorted({entry.name for entry in entry_points(group="pytest11")} - {"mooncake"})
WITH = tuple(word for name in ("cacheprovider", *OTHERS) for word in ("-p", f"no:{name}"))
WITHOUT = (*WITH, "-p", "no:mooncake")


def run_ms(directory: str, arguments: tuple[str, ...]) -> float:
    """Wall time of one pytest process that collects nothing, in milliseconds."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    started_s = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *arguments]
    subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
    return (time.perf_counter() - started_s) * 1e3


def differences_ms(pairs: int) -> list[float]:
    """With minus without, pair by pair, in rising order."""
    with tempfile.TemporaryDirectory() as directory:
        run_ms(directory, WITH)
        found = []
        for pair in range(pairs):
            order = (WITHOUT, WITH) if pair % 2 else (WITH, WITHOUT)
            taken = {arguments: run_ms(directory, arguments) for arguments in order}
            found.append(taken[WITH] - taken[WITHOUT])
    return sorted(found)


def main() -> int:
    """Print the cost; exit code 1 when its interval lies wholly above the limit."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    found = differences_ms(pairs)
    margin = round(0.98 * pairs**0.5)
    low, high = found[max(0, pairs // 2 - margin)], found[min(pairs - 1, pairs // 2 + margin)]
    median = statistics.median(found)
    print(f"plugin load: {median:.1f} ms over pytest alone (95 %: {low:.1f} to {high:.1f}; {pairs} pairs)")
    return int(low > LIMIT_MS)


if __name__ == "__main__":
    raise SystemExit(main())
