"""What a small team notices of attacks on its server: ``make attacks``.

Each attack runs from a process of its own and from addresses of its own, beside a small team that sends 20
requests of 32x80 a second on connections that it keeps, and one on a new connection, and probes.
"""

from __future__ import annotations

import sys
from itertools import groupby

from bench.attacks.hangs import NOTICED_SECONDS, PARTS, Hang, hang
from bench.attacks.plans import PLANS
from bench.attacks.siege import LONG, SHORT, Result, Siege
from bench.table import options, table, tell

COLUMNS = (
    "attack",
    "kB/s",
    "connections",
    "small, ms",
    "new connection, ms",
    "probes, ms",
    "log lines/s",
    "memory, MiB",
    "promises broken",
)


def row(result: Result) -> tuple[str, ...]:
    """Return a result as cells of the table."""
    alone, beside = result.alone, result.beside
    pairs = [(alone.small, beside.small), (alone.fresh, beside.fresh), (alone.probes, beside.probes)]
    return (
        f"{result.plan.name}{', with a key' if result.plan.key else ''}",
        f"{result.cost.sent / result.seconds / 1e3:,.0f}",
        f"{result.cost.connections:,}",
        *(f"{1e3 * one.p99:.1f} to {1e3 * two.p99:,.1f}" for one, two in pairs),
        f"{result.lines:.1f}",
        f"{result.growth / (1 << 20):+.0f}",
        "; ".join(result.broken()) or "none",
    )


def main() -> int:
    """Run the attacks, print the table, and return 1 if a promise was broken."""
    parser = options("attacks", __doc__, rounds=1)
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=f"of {', '.join(PLANS)}; all by default")
    parser.add_argument("--short", action="store_true", help="as the tests run them")
    given = parser.parse_args()
    if unknown := set(given.names) - set(PLANS):
        parser.error(f"no attacks: {', '.join(sorted(unknown))}")
    usual = [name for name, plan in PLANS.items() if plan.short or not given.short]
    plans = sorted((PLANS[name] for name in given.names or usual), key=lambda plan: plan.place)
    results = []
    for place, there in groupby(plans, key=lambda plan: plan.place):
        with Siege(place, SHORT if given.short else LONG) as siege:
            for plan in there:
                results.append(siege.under(plan))
                print(" | ".join(row(results[-1])), file=sys.stderr, flush=True)
    tables, broken = [table(COLUMNS, [row(one) for one in results])], any(one.broken() for one in results)
    if not given.names and not given.short:
        hangs = [look(part) for part in PARTS]
        broken |= any(one.noticed is None or one.noticed > NOTICED_SECONDS for one in hangs)
        tables.append(
            table(("stopped part", "noticed after, s", "served after, s"), [hang_row(one) for one in hangs])
        )
    tell("attacks", given, *tables)
    return int(broken)


def look(part: str) -> Hang:
    """Stop a part of a server of its own."""
    with Siege("teams", LONG) as siege:
        return hang(siege, part)


def hang_row(found: Hang) -> tuple[str, ...]:
    """Return what was seen of a part that hung as cells of the table."""
    times = [found.noticed, found.served]
    return (found.part, *("never" if one is None else f"{one:.1f}" for one in times))


if __name__ == "__main__":
    sys.exit(main())
