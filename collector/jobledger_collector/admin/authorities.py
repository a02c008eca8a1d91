"""``jobledger agents ca``: a small certificate authority, for sites without one."""

import argparse
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadUsage, CommandFailed
from jobledger_collector.admin.output import say
from jobledger_collector.authority import (
    CA_FILE,
    CA_KEY_FILE,
    DAYS,
    PUBLIC_MODE,
    SECRET_MODE,
    Authority,
    for_server,
    load_authority,
    new_authority,
    write_file,
)

SERVER_FILE: Final = "collector.pem"
SERVER_KEY_FILE: Final = "collector.key"
MAX_HOSTS: Final = 50
EPILOG: Final = """\
examples:
  jobledger agents ca init --host db.example.org --host 192.0.2.7
  jobledger agents ca server --host db.example.org      renew the collector's certificate

The folder (--directory, [agents] ca_directory) then holds ca.pem, ca.key (0600:
whoever has it can make agents), collector.pem and collector.key for the
collector's [tls] settings. Renewed files are used without a restart.
"""


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions to the group."""
    parser = actions.add_parser(
        "ca",
        help="a small certificate authority, for sites without one",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(metavar="STEP", required=True)
    init = steps.add_parser("init", help="make the authority and the collector's certificate")
    init.add_argument("--name", default="Jobledger agents", help="of the authority")
    init.set_defaults(run=_init)
    server = steps.add_parser("server", help="issue the collector's certificate anew")
    server.set_defaults(run=_server)
    for step in (init, server):
        step.add_argument("--directory", type=Path, metavar="DIR", help="over the settings")
        step.add_argument(
            "--host",
            action="append",
            required=True,
            metavar="NAME",
            help="host name or address that agents call; may be given several times",
        )
        step.add_argument(
            "--days", type=int, default=DAYS, metavar="N", help=f"that it is valid ({DAYS})"
        )


def _init(args: argparse.Namespace, context: Context) -> int:
    folder = _folder(args, context)
    if (folder / CA_KEY_FILE).exists():
        raise CommandFailed(
            f"{folder} holds an authority already: `jobledger agents ca server` renews the"
            " collector's certificate; a second authority needs another --directory"
        )
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"Cannot make {folder}: {error.strerror}") from error
    authority, pair = new_authority(args.name, context.now_s())
    write_file(folder / CA_KEY_FILE, pair.key, SECRET_MODE)
    write_file(folder / CA_FILE, pair.certificate, PUBLIC_MODE)
    _issue(args, context, folder, authority)
    return 0


def _server(args: argparse.Namespace, context: Context) -> int:
    folder = _folder(args, context)
    _issue(args, context, folder, load_authority(folder))
    return 0


def _issue(args: argparse.Namespace, context: Context, folder: Path, authority: Authority) -> None:
    if len(args.host) > MAX_HOSTS or not 1 <= args.days <= DAYS * 10:
        raise BadUsage(f"At most {MAX_HOSTS} hosts, and --days from 1 to {DAYS * 10}")
    pair = for_server(authority, args.host, context.now_s(), args.days)
    write_file(folder / SERVER_KEY_FILE, pair.key, SECRET_MODE)
    write_file(folder / SERVER_FILE, pair.certificate, PUBLIC_MODE)
    say(context.out, "[tls]")
    say(context.out, f'certificate_file = "{folder / SERVER_FILE}"')
    say(context.out, f'key_file = "{folder / SERVER_KEY_FILE}"')
    say(context.out, f'client_ca_file = "{folder / CA_FILE}"')
    say(context.err, "These are settings of jobledger-collector; its user must be able to read")
    say(context.err, "key_file. With client_ca_file every agent must show a certificate.")


def _folder(args: argparse.Namespace, context: Context) -> Path:
    return args.directory or Path(context.config.agents.ca_directory)
