"""``jobledger demo``: the whole river on loopback, with the real programs.

Agent, collector, web and ``jobledger`` run as processes of their own on a
SQLite file; nothing here knows how any of them works. What a person would type
is printed as it is done.
"""

import argparse
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadInput, CommandFailed
from jobledger_collector.admin.output import say
from jobledger_collector.admin.programs import (
    Program,
    ProgramFailed,
    name_of,
    read_output,
    run_to_end,
)
from jobledger_collector.core.periods import format_period
from jobledger_collector.pdf import Language, Renderer, RenderFailed
from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.invoices import get_invoice, list_invoices
from jobledger_collector.store.people import list_people
from jobledger_collector.store.quarantine import count as count_quarantined
from jobledger_collector.store.usage_rows import JobFilter
from jobledger_collector.store.usage_views import months, totals

AGENT: Final = "jobledger_agent.cli"
COLLECTOR: Final = "jobledger_collector.cli"
WEB: Final = "jobledger_web.cli"
ADMIN: Final = "jobledger_collector.admin.cli"
ADMIN_LOGIN: Final = "admin"
INPUT_UNREADABLE: Final = 5
DEFAULT_PORT: Final = 8080
LANGUAGES: Final[tuple[Language, ...]] = ("en", "th")
CAPTURES: Final = (
    "slurm-22.05/safe-billing.txt,rename=alpha:orchid,rename=beta:orchid-test",
    "slurm-25.11/json-D.json.gz,rename=alpha:lotus,rename=beta:lotus-test",
)
"""One capture of each Slurm version that the repository carries; both came from
clusters named alpha and beta, so each gets names of its own."""

EPILOG: Final = """\
examples:
  jobledger demo                                     serve until Ctrl-C
  jobledger demo --no-serve --dir out                leave database, PDFs and CSVs in out/
  jobledger demo --no-serve --dir out --input dump.txt --input more.json.gz
  jobledger demo --input dump.txt,rename=alpha:orchid,timezone=Asia/Bangkok

exit codes:
  0 every record is stored or in quarantine   1 a program failed
  5 an input could not be read to its end (what could be read is stored)
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo happens."""

    folder: Path
    url: str
    inputs: tuple[str, ...]
    context: Context

    def log(self, program: str) -> Path:
        """Return the file that a program's messages go to."""
        return self.folder / "logs" / f"{program}.log"

    def step(self, text: str) -> None:
        """Say what is done next."""
        say(self.context.err, f"==> {text}")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``jobledger demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="run everything on captured records, on this machine only",
        description="Run agent, collector and web on loopback with SQLite, and bill real records.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-serve", action="store_true", help="do the work and exit")
    parser.add_argument("--dir", type=Path, help="where results go (default: a temporary folder)")
    parser.add_argument(
        "--input", action="append", default=[], metavar="FILE[,rename=OLD:NEW]",
        help="a dump of sacct or slurmrestd; default: the captures of the repository",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, help=f"port of the web (default: {DEFAULT_PORT}, else any free one)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """Do everything; returns the exit code."""
    with ExitStack() as stack:
        folder = _folder(args.dir, stack)
        inputs = tuple(args.input) or tuple(_captures())
        stage = Stage(folder, f"sqlite:///{folder / 'jobledger.db'}", inputs, context)
        try:
            return _play(stage, args)
        except (ProgramFailed, RenderFailed) as failure:
            raise CommandFailed(str(failure)) from failure
        except KeyboardInterrupt:
            return 0


def _play(stage: Stage, args: argparse.Namespace) -> int:
    _prepare(stage)
    status = _deliver(stage)
    _issue(stage)
    _write_results(stage)
    _sum_up(stage)
    if status == INPUT_UNREADABLE:
        stage.step("an input could not be read, or not to its end: the agent said why above")
    if not args.no_serve:
        _serve(stage, args.port, temporary=args.dir is None)
    return status


def _folder(wanted: Path | None, stack: ExitStack) -> Path:
    if wanted is None:
        wanted = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobledger-demo-")))
    folder = wanted.absolute()
    try:
        for name in ("logs", "invoices"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Cannot write to {folder}: {error.strerror}; choose another --dir"
        raise CommandFailed(message) from error
    return folder


def _captures() -> Iterator[str]:
    shipped = Path(__file__).parents[3] / "tests" / "data"
    for capture in CAPTURES:
        if not (shipped / capture.partition(",")[0]).is_file():
            raise BadInput(
                "The captured records come with the source, not with the package: run `make demo`"
                " in a checkout, or name a dump of your own with --input FILE"
            )
        yield f"{shipped / capture}"


def _prepare(stage: Stage) -> None:
    """Make the database, and load the sample rate card and accounts."""
    stage.step(f"jobledger-collector migrate --db {stage.url}")
    _must(COLLECTOR, "migrate", "--db", stage.url)
    with as_file(_samples()) as samples:
        _jobledger(stage, "rates", "load", str(samples / "rate-card.yaml"))
        _jobledger(stage, "accounts", "load", str(samples / "accounts.yaml"))


def _deliver(stage: Stage) -> int:
    """Run a collector and an agent over the inputs; return the exit code so far."""
    stage.step("collector and agent, on loopback: " + ", ".join(stage.inputs))
    serve = ("serve", "--db", stage.url, "--listen", "127.0.0.1:0", "--metrics-listen", "")
    with Program(COLLECTOR, serve, stage.log("collector")) as collector:
        address = collector.wait_until_ready()
        inputs = [part for one in stage.inputs for part in ("--input", one)]
        spool = str(stage.folder / "spool.db")
        status = run_to_end(
            AGENT,
            ["once", "--name", "demo", "--collector", address, "--spool", spool, *inputs],
        )
    if status not in {0, INPUT_UNREADABLE}:
        _check(AGENT, status)
    return status


def _issue(stage: Stage) -> None:
    """Issue every month that has usage, over or not: a dump may be of any time."""
    with reading(open_engine(stage.url)) as conn:
        periods = sorted(period for period, _ in months(conn) if period)
    for period in periods:
        _jobledger(stage, "invoices", "issue", "--period", format_period(period), "--early")


def _write_results(stage: Stage) -> None:
    """Leave each invoice as PDF in both languages, and the CSVs."""
    _jobledger(stage, "export", "jobs", "--out", str(stage.folder / "jobs.csv"))
    _jobledger(stage, "export", "lines", "--out", str(stage.folder / "invoice-lines.csv"))
    with reading(open_engine(stage.url)) as conn, Renderer() as renderer:
        numbers = [invoice.number for invoice in list_invoices(conn)]
        stage.step(f"{len(numbers)} documents as PDF, in English and in Thai")
        for number in numbers:
            invoice = get_invoice(conn, number)
            if invoice is None:
                continue
            for language in LANGUAGES:
                target = stage.folder / "invoices" / f"{number}.{language}.pdf"
                target.write_bytes(renderer.render(invoice.document, language))


def _sum_up(stage: Stage) -> None:
    with reading(open_engine(stage.url)) as conn:
        runs, kept_aside = totals(conn, JobFilter()).jobs, count_quarantined(conn)
    stage.step(f"{runs} job runs stored, {kept_aside} records in quarantine: {stage.folder}")


def _serve(stage: Stage, port: int | None, *, temporary: bool) -> None:
    """Serve the web until Ctrl-C or SIGTERM, with a password that works once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with reading(open_engine(stage.url)) as conn:
        known = any(person.login == ADMIN_LOGIN for person in list_people(conn))
    port = _free_port() if port is None else port
    listen = ("serve", "--db", stage.url, "--listen", f"127.0.0.1:{port}")
    with Program(WEB, listen, stage.log("web")) as web:
        address = web.wait_until_ready()
        password = _one_time_password(stage, is_known=known)
        kept = " (gone after Ctrl-C; --dir keeps them)" if temporary else ""
        say(stage.context.out)
        say(stage.context.out, f"  Open      http://{address}/")
        say(stage.context.out, f"  Login     {ADMIN_LOGIN}")
        say(stage.context.out, f"  Password  {password} (for the first sign-in)")
        say(stage.context.out, f"  Results   {stage.folder}{kept}")
        say(stage.context.out, "  Stop      Ctrl-C")
        stage.context.out.flush()
        if web.wait() != 0:
            raise ProgramFailed(f"The web ended by itself; see {stage.log('web')}")


def _one_time_password(stage: Stage, *, is_known: bool) -> str:
    """Give the admin a random password that must be changed at the first sign-in."""
    what = ("passwd", ADMIN_LOGIN) if is_known else ("add", ADMIN_LOGIN, "--role", "admin")
    arguments = ("people", *what, "--generate")
    stage.step("jobledger " + " ".join(arguments))
    with as_file(_samples()) as samples:
        config = str(samples / "jobledger.toml")
        status, output = read_output(ADMIN, ("--config", config, "--db", stage.url, *arguments))
    _check(ADMIN, status)
    return output.strip()


def _free_port() -> int:
    """Return the usual port, or 0 (any) where another program has it."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0 else DEFAULT_PORT


def _jobledger(stage: Stage, *arguments: str) -> None:
    stage.step("jobledger " + " ".join(arguments))
    with as_file(_samples()) as samples:
        config = str(samples / "jobledger.toml")
        _must(ADMIN, "--config", config, "--db", stage.url, *arguments)


def _samples() -> Traversable:
    return files(__package__ or "jobledger_collector.admin") / "samples"


def _must(module: str, *arguments: str) -> None:
    _check(module, run_to_end(module, arguments))


def _check(module: str, status: int) -> None:
    if status != 0:
        raise CommandFailed(f"{name_of(module)} ended with status {status}; it said why above")
