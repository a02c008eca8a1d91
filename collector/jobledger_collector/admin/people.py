"""``jobledger people``: who may sign in to the web."""

import argparse
import getpass
import secrets
import sys
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadInput, BadUsage, CommandFailed
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.core.node import NAME_PATTERN
from jobledger_collector.store.people import (
    MAX_PASSWORD_CHARACTERS,
    ROLES,
    Person,
    add_person,
    list_people,
    set_disabled,
    set_password,
    weakness,
)
from jobledger_collector.store.sessions import close_sessions_of

GENERATED_BYTES: Final = 15
"""Randomness of a generated password: 120 bits, 20 characters."""
EPILOG: Final = """\
examples:
  jobledger people add admin --role admin --generate
  jobledger people add alice --role member --slurm-user alice --account physics
  jobledger people passwd alice --password-file /run/secrets/alice
  jobledger people disable alice
  jobledger people list --json

A password is asked for, read from --password-file ("-" for standard input), or
made up by --generate and then printed once. A generated one must be changed at
the first sign-in. A password is never an argument: others could read it.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command group to the program."""
    parser = subparsers.add_parser(
        "people",
        help="who may sign in to the web",
        description="Add, list and bar people who may sign in to the web.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add someone")
    add.add_argument("login")
    add.add_argument("--role", choices=ROLES, required=True)
    add.add_argument("--slurm-user", default="", metavar="NAME", help="whose jobs a member sees")
    add.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="ID",
        help="a billing account that a member sees; may be given several times",
    )
    _password_options(add)
    add.set_defaults(run=_add)
    listing = actions.add_parser("list", help="list everyone")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_list)
    passwd = actions.add_parser("passwd", help="give someone a new password")
    passwd.add_argument("login")
    _password_options(passwd)
    passwd.set_defaults(run=_passwd)
    disable = actions.add_parser("disable", help="bar someone from signing in")
    disable.add_argument("login")
    disable.add_argument("--undo", action="store_true", help="let them sign in again")
    disable.set_defaults(run=_disable)


def _password_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--password-file", metavar="FILE", help='read it here; "-" is stdin')
    group.add_argument("--generate", action="store_true", help="make one up and print it once")


def _add(args: argparse.Namespace, context: Context) -> int:
    if not NAME_PATTERN.fullmatch(args.login):
        raise BadUsage(f'"{args.login}" is not a login: use letters, digits, ".", "-" and "_"')
    if any("," in account for account in args.account):
        raise BadUsage("Give each billing account its own --account")
    password = _password(args)
    person = Person(
        args.login,
        args.role,
        args.slurm_user,
        tuple(args.account),
        must_change=args.generate,
        created_at=context.now_s(),
    )
    context.make_tables()
    with context.writing() as conn:
        if not add_person(conn, person, password):
            raise CommandFailed(
                f"There is a person {args.login} already: use `jobledger people passwd` for a new"
                " password, or choose another login"
            )
    _show_generated(args, context, password)
    return 0


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        everyone = list_people(conn)
    if args.json:
        for person in everyone:
            json_line(context.out, person._asdict())
        return 0
    rows = [
        (
            person.login,
            person.role,
            person.slurm_user,
            " ".join(person.accounts),
            "disabled" if person.disabled else "must change" if person.must_change else "",
        )
        for person in everyone
    ]
    table(context.out, ("LOGIN", "ROLE", "SLURM USER", "ACCOUNTS", "PASSWORD"), rows)
    return 0


def _passwd(args: argparse.Namespace, context: Context) -> int:
    password = _password(args)
    with context.writing() as conn:
        if not set_password(conn, args.login, password, must_change=args.generate):
            raise _nobody(args.login)
        close_sessions_of(conn, args.login)
    _show_generated(args, context, password)
    return 0


def _disable(args: argparse.Namespace, context: Context) -> int:
    with context.writing() as conn:
        if not set_disabled(conn, args.login, disabled=not args.undo):
            raise _nobody(args.login)
        close_sessions_of(conn, args.login)
    return 0


def _nobody(login: str) -> CommandFailed:
    return CommandFailed(f"There is no person {login}: `jobledger people list` shows everyone")


def _show_generated(args: argparse.Namespace, context: Context, password: str) -> None:
    if args.generate:
        say(context.out, password)


def _password(args: argparse.Namespace) -> str:
    if args.generate:
        return secrets.token_urlsafe(GENERATED_BYTES)
    password = _read(args.password_file) if args.password_file else _ask(args.login)
    problem = weakness(password, args.login)
    if problem:
        raise BadInput(f"This password will not do: {problem}")
    return password


def _read(file: str) -> str:
    try:
        if file == "-":
            text = sys.stdin.readline(MAX_PASSWORD_CHARACTERS + 2)
        else:
            with Path(file).open(encoding="utf-8") as stream:
                text = stream.readline(MAX_PASSWORD_CHARACTERS + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read a password from {file}: {error}") from error
    return text.rstrip("\r\n")


def _ask(login: str) -> str:
    if not sys.stdin.isatty():
        raise BadUsage("Nobody is here to ask for a password: give --password-file or --generate")
    password = getpass.getpass(f"New password for {login}: ")
    if getpass.getpass("Again: ") != password:
        raise BadInput("The two passwords differ; nothing was changed")
    return password
