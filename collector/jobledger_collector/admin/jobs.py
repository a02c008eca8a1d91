"""``jobledger jobs``: job runs with what they used and cost."""

import argparse
import itertools
from typing import Any, Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadUsage
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.core.money import format_cost
from jobledger_collector.core.periods import parse_period
from jobledger_collector.currency import shown_places
from jobledger_collector.exports import local_time
from jobledger_collector.store.cards import read_books
from jobledger_collector.store.handles import Connection
from jobledger_collector.store.usage_views import JobFilter, JobRow, iter_jobs, totals

TABLE_ROWS: Final = 200
"""Rows that the table shows unless --limit says otherwise; --json shows all."""

EPILOG: Final = """\
examples:
  jobledger jobs --period 2026-10 --account physics
  jobledger jobs --json --cluster alpha | jq 'select(.gpu_s > 0)'

--json prints one object a line for every run, also for those that are open or
never started: times in epoch seconds (null when unknown), costs as exact
decimal strings, invoice null until the run is on one.
"""
HEADINGS: Final = (
    "CLUSTER", "JOB", "END", "USER", "ACCOUNT", "STATE", "CPU-S", "GPU-S", "LIST", "COST",
    "INVOICE",
)  # fmt: skip


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "jobs",
        help="list job runs with their costs",
        description="List job runs with what they used and cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_filters(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N runs")
    parser.set_defaults(run=run)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose runs; ``filter_of`` reads them."""
    parser.add_argument("--period", metavar="YYYY-MM", help="runs that ended in this month")
    parser.add_argument("--cluster", metavar="NAME", help="runs on this cluster")
    parser.add_argument("--account", metavar="NAME", help="runs under this Slurm account")
    parser.add_argument("--billing-account", metavar="ID", help="runs that this account pays")
    parser.add_argument("--user", metavar="NAME", help="runs of this user")
    parser.add_argument("--state", metavar="STATE", help="runs in this state, such as COMPLETED")


def filter_of(args: argparse.Namespace) -> JobFilter:
    """The runs that the command line chose; raises BadUsage for a period that is none."""
    return JobFilter(
        period=period_argument(args.period),
        cluster=args.cluster,
        account=args.account,
        billing_account=args.billing_account,
        user=args.user,
        state=args.state and args.state.upper(),
    )


def period_argument(text: str | None) -> int | None:
    """A period as yyyymm from "2026-10"; raises BadUsage."""
    try:
        return None if text is None else parse_period(text)
    except ValueError as error:
        raise BadUsage(f"--period: {error}") from error


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the runs; returns the exit code."""
    wanted = filter_of(args)
    if args.limit is not None and args.limit < 0:
        raise BadUsage("--limit: give how many runs to list, 0 or more")
    with context.reading() as conn:
        if args.json:
            for job in itertools.islice(iter_jobs(conn, wanted), args.limit):
                json_line(context.out, job_json(job))
        else:
            _print_table(conn, wanted, TABLE_ROWS if args.limit is None else args.limit, context)
    return 0


def job_json(job: JobRow) -> dict[str, Any]:
    """One run as scripts read it."""
    places = shown_places(job.currency)
    return {
        "cluster": job.cluster,
        "job_id_raw": job.job_id,
        "submit": job.submit,
        "start": job.start or None,
        "end": job.end or None,
        "user": job.user,
        "account": job.account,
        "partition": job.partition,
        "qos": job.qos,
        "state": job.state,
        "elapsed_s": job.elapsed_s,
        "cpu_s": job.cpu_s,
        "gpu_s": job.gpu_s,
        "mem_mib_s": job.mem_mib_s,
        "node_s": job.node_s,
        "list_cost": format_cost(job.list_e14, places),
        "cost": format_cost(job.cost_e14, places),
        "currency": job.currency,
        "revision": job.revision,
        "invoice": job.invoice,
        "billing_account": job.billing_account,
        "flags": job.flags.split(",") if job.flags else [],
    }


def _print_table(conn: Connection, wanted: JobFilter, limit: int, context: Context) -> None:
    timezone = read_books(conn).timezone
    jobs = list(itertools.islice(iter_jobs(conn, wanted), limit))
    table(context.out, HEADINGS, [_table_row(job, timezone) for job in jobs])
    sums = totals(conn, wanted)
    currency = jobs[0].currency if jobs else ""
    cost = format_cost(sums.cost_e14, shown_places(currency))
    say(context.out)
    shown = f", the first {len(jobs)} shown (--limit, --json)" if len(jobs) < sums.jobs else ""
    say(context.out, f"{sums.jobs} runs{shown}: {cost} {currency}".rstrip())
    if sums.unpriced:
        say(context.err, f"{sums.unpriced} runs have usage without a price: see `jobledger rates`")


def _table_row(job: JobRow, timezone: str) -> tuple[object, ...]:
    places = shown_places(job.currency)
    return (
        job.cluster,
        job.job_id,
        local_time(job.end, timezone)[:16] or "-",
        job.user,
        job.account,
        job.state,
        job.cpu_s,
        job.gpu_s,
        format_cost(job.list_e14, places),
        format_cost(job.cost_e14, places),
        job.invoice or "-",
    )
