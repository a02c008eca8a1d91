"""``jobledger explain``: the arithmetic of a job in words."""

import argparse
import re
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadUsage, CommandFailed
from jobledger_collector.admin.output import json_line, say
from jobledger_collector.core.explain import as_json, as_text
from jobledger_collector.core.record import RunKey
from jobledger_collector.store.explanations import explain_job, explain_run

JOB_PATTERN: Final = re.compile(
    r"(?P<cluster>[^/]+)/(?P<job>[0-9]{1,18})(@(?P<submit>[0-9]{1,18}))?"
)
EPILOG: Final = """\
examples:
  jobledger explain alpha/1234                 every run of job 1234
  jobledger explain alpha/1234@1790787600      the run that was submitted then
  jobledger explain alpha/1234 --json

The job id is Slurm's raw one (JobIDRaw): also for a task of an array.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "explain",
        help="the arithmetic of a job in words",
        description="Explain what a job used, at which prices, and what it costs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job", metavar="CLUSTER/JOBID[@SUBMIT]")
    parser.add_argument("--json", action="store_true", help="one JSON object a run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Explain the runs that were asked for."""
    named = JOB_PATTERN.fullmatch(args.job)
    if not named:
        raise BadUsage(f'"{args.job}" is not a job: write CLUSTER/JOBID, for example alpha/1234')
    cluster, job_id = named["cluster"], int(named["job"])
    with context.reading() as conn:
        if named["submit"]:
            one = explain_run(conn, RunKey(cluster, job_id, int(named["submit"])))
            explanations = [one] if one else []
        else:
            explanations = explain_job(conn, cluster, job_id)
    if not explanations:
        raise CommandFailed(
            f"The books know no run {args.job}: check the cluster and the raw job id"
            " (`jobledger jobs --cluster NAME`), and `jobledger quarantine`"
        )
    for explanation in explanations:
        if args.json:
            json_line(context.out, as_json(explanation))
        else:
            say(context.out, as_text(explanation))
    return 0
