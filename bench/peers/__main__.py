"""lossd beside its peers, and beside what nothing can beat: ``make bench``.

Installs the peers into ``.bench`` and measures all of them in rounds, in turn. A peer that does not install
or start is named as not measured. Needs wrk.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.peers import report
from bench.peers.catalog import ENVIRONMENTS, ROOT, SERVERS
from bench.peers.figures import Run
from bench.peers.install import install, installed
from bench.peers.measure import Plan, one_round

PAGE = ROOT / "docs/performance.md"


def machine() -> dict[str, str]:
    """What this ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": f"{len(os.sched_getaffinity(0))} of {model}, shared with the load generator",
        "memory": f"{kilobytes / (1 << 20):.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def plots(run: Run, folder: Path) -> list[str]:
    """Draw a run's plots beside the page; their names."""
    if why := install("plots"):
        say(f"no plots: {why}")
        return []
    with tempfile.TemporaryDirectory() as place:
        run.save(Path(place) / "run.json")
        python = ENVIRONMENTS / "plots/bin/python"
        command = [python, Path(__file__).with_name("plots.py"), Path(place) / "run.json", folder]
        subprocess.run(command, check=True)  # noqa: S603 -- our own command
    return sorted(path.name for path in folder.glob("performance-*.svg"))


def main() -> None:
    """Install, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="of each cell that wrk measures")
    parser.add_argument("--minutes", type=float, default=38.0, help="begin no round that would end later")
    parser.add_argument("--only", help="servers whose names contain one of these, separated by commas")
    parser.add_argument("--no-install", action="store_true", help="take what is installed")
    parser.add_argument(
        "--quick", action="store_true", help="one round, without 4,096x80 and crowds of large ones"
    )
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    parser.add_argument("--from-json", type=Path, help="measure nothing: read what --json wrote")
    parser.add_argument("--write", action="store_true", help="put tables and plots into docs/performance.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped on the way out
    run = Run.load(options.from_json) if options.from_json else measured(options)
    report.show(run)
    if options.json:
        run.save(options.json)
    if options.write:
        drawn = plots(run, PAGE.parent)
        PAGE.write_text(report.put(PAGE.read_text(), report.markdown(run, drawn)))


def measured(options: argparse.Namespace) -> Run:
    """A run, as asked for."""
    if shutil.which("wrk") is None:
        sys.exit("this needs wrk, a package of Debian's and Ubuntu's: apt-get install wrk")
    began = time.monotonic()
    names = options.only.split(",") if options.only else [""]
    servers = [one for one in SERVERS if any(name.lower() in one.name.lower() for name in names)]
    run = Run(machine(), len(os.sched_getaffinity(0)))
    for server in servers:
        if server.environment and not (options.no_install and installed(server.environment)):
            say(f"{server.name}: installing into .bench/{server.environment}")
            why = "not installed" if options.no_install else install(server.environment)
            if why:
                run.absent[server.name] = why
    plan = Plan(options.seconds, options.quick)
    longest = 0.0
    for _ in range(1 if options.quick else options.rounds):
        if time.monotonic() - began + longest > 60 * options.minutes:
            say("no time for another round")
            break
        start = time.monotonic()
        one_round(run, servers, plan, say)
        longest = max(longest, time.monotonic() - start)
    return run


if __name__ == "__main__":
    main()
