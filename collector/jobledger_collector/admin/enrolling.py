"""``jobledger agents add`` and ``rotate``: an enrolment goes in, one code comes out."""

import argparse
import re
import secrets
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.files import read_document
from jobledger_collector.admin.outcome import BadInput, BadUsage, CommandFailed
from jobledger_collector.admin.output import json_line, say
from jobledger_collector.authority import (
    CA_FILE,
    DAYS,
    Pair,
    agent_uri,
    for_agent,
    load_authority,
)
from jobledger_collector.config import Address, parse_address
from jobledger_collector.core.enrolment import sha256_of
from jobledger_collector.core.enrolment_code import Code, encode
from jobledger_collector.core.errors import ConfigInvalid
from jobledger_collector.store import enrolments
from jobledger_collector.store.enrolments import Enrolled
from jobledger_collector.store.handles import Connection

TOKEN_BYTES: Final = 32
GRACE_DAYS: Final = 7
"""How long a token is still good after another one took its place."""
DAY_S: Final = 86_400
MAX_GRACE_DAYS: Final = 365
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
"""What may name an agent or a cluster: as the wire has it."""
ADD_EPILOG: Final = """\
examples:
  jobledger agents add alpha --address db.example.org:7610 > code
  jobledger agents add alpha beta --name head-1 --issue-certificate > code
  jobledger agents add gamma --certificate-name spiffe://example.org/slurm --no-token > code

The code holds the agent's secrets and is printed once. Carry it to the agent's
machine, there run `jobledger-agent enroll --file code`, then remove it.
"""


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both actions to the group."""
    add = actions.add_parser(
        "add",
        help="enrol one: prints the code that its machine needs",
        epilog=ADD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("cluster", nargs="+", metavar="CLUSTER", help="for which it may speak")
    add.add_argument("--name", default="", help="of the agent; the first cluster's without it")
    add.add_argument(
        "--shared", action="store_true", help="also for clusters that another agent owns"
    )
    add.add_argument("--no-token", action="store_true", help="only a certificate proves it")
    add.add_argument(
        "--certificate-name",
        default="",
        metavar="NAME",
        help="it must show a certificate with this URI, DNS name or common name",
    )
    _delivery(add)
    add.set_defaults(run=_add)
    rotate = actions.add_parser("rotate", help="give one a new token: prints a new code")
    rotate.add_argument("name")
    rotate.add_argument(
        "--grace-days",
        type=int,
        default=GRACE_DAYS,
        metavar="N",
        help=f"the old token ends after so long ({GRACE_DAYS}; 0 at once)",
    )
    _delivery(rotate)
    rotate.set_defaults(run=_rotate)


def _delivery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT", help="where it calls; over the settings"
    )
    parser.add_argument(
        "--issue-certificate",
        action="store_true",
        help="put a new certificate of the authority in ca_directory into the code",
    )
    parser.add_argument(
        "--days", type=int, default=DAYS, metavar="N", help=f"that it is valid ({DAYS})"
    )
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="whom it is to trust")
    parser.add_argument(
        "--system-ca", action="store_true", help="it is to trust what its machine trusts"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def _add(args: argparse.Namespace, context: Context) -> int:
    clusters = tuple(dict.fromkeys(args.cluster))
    name = args.name or clusters[0]
    for one in (name, *clusters):
        if not NAME.fullmatch(one):
            raise BadUsage(
                f'"{one}" cannot name an agent or a cluster: use up to 128 letters, digits and'
                " ._@-, a letter or digit first"
            )
    if args.issue_certificate and args.certificate_name:
        raise BadUsage("Give --issue-certificate or --certificate-name, not both")
    certificate_name = agent_uri(name) if args.issue_certificate else args.certificate_name
    if args.no_token and not certificate_name:
        raise BadUsage("Without a token something else must prove it: --issue-certificate")
    now_s = context.now_s()
    address, ca = _way(args, context)
    pair = _issued(args, context, name)
    token = "" if args.no_token else secrets.token_urlsafe(TOKEN_BYTES)
    context.make_tables()
    with context.writing() as conn:
        _check_that_it_is_free(conn, args, name, clusters, certificate_name)
        enrolments.enrol(
            conn,
            Enrolled(
                name, clusters, bool(token), certificate_name, now_s, context.person, 0, "", ()
            ),
        )
        if token:
            enrolments.add_token(conn, name, sha256_of(token), now_s, context.person)
    code = _code(name, clusters, address, token, ca, pair)
    _deliver(args, context, code, f"Agent {name} is enrolled for {', '.join(clusters)}.")
    return 0


def _rotate(args: argparse.Namespace, context: Context) -> int:
    if not 0 <= args.grace_days <= MAX_GRACE_DAYS:
        raise BadUsage(f"--grace-days must be from 0 to {MAX_GRACE_DAYS}")
    now_s = context.now_s()
    address, ca = _way(args, context)
    with context.writing() as conn:
        found = enrolments.find(conn, args.name)
        if found is None or found.revoked_at:
            raise CommandFailed(
                f"No enrolment {args.name} stands: `jobledger agents` lists them, `jobledger"
                " agents add` enrols"
            )
        if args.issue_certificate and found.certificate_name not in ("", agent_uri(args.name)):
            raise CommandFailed(
                f"Agent {args.name} is enrolled with the certificate {found.certificate_name} of"
                " another authority: renew it there, or enrol the agent anew"
            )
        pair = _issued(args, context, args.name)
        token = secrets.token_urlsafe(TOKEN_BYTES) if found.asks_token else ""
        if token:
            enrolments.end_tokens(conn, args.name, now_s + args.grace_days * DAY_S)
            enrolments.add_token(conn, args.name, sha256_of(token), now_s, context.person)
    code = _code(args.name, found.clusters, address, token, ca, pair)
    ends = f"; the old token ends in {args.grace_days} days" if token else ""
    _deliver(args, context, code, f"Agent {args.name} has a new code{ends}.")
    return 0


def _check_that_it_is_free(
    conn: Connection,
    args: argparse.Namespace,
    name: str,
    clusters: tuple[str, ...],
    certificate_name: str,
) -> None:
    found = enrolments.find(conn, name)
    if found and not found.revoked_at:
        raise CommandFailed(
            f"There is an agent {name} already, for {', '.join(found.clusters)}: `jobledger agents"
            " rotate` gives it a new code; remove it to enrol it otherwise, or choose --name"
        )
    owners = {
        cluster: owner
        for cluster, owner in enrolments.owners_of(conn, clusters).items()
        if owner != name
    }
    if owners and not args.shared:
        cluster, owner = min(owners.items())
        raise CommandFailed(
            f"Cluster {cluster} belongs to agent {owner}: revoke and remove that one, or let both"
            " report with --shared"
        )
    if certificate_name and enrolments.is_certificate_taken(conn, certificate_name, name):
        raise CommandFailed(f"The certificate {certificate_name} is another agent's: choose one")


def _way(args: argparse.Namespace, context: Context) -> tuple[Address, str | None]:
    """Return where the agent calls, and whom it trusts: PEM, "" its system, None in the clear."""
    settings = context.config.agents
    address = parse_address(args.address or settings.address, "--address")
    if args.system_ca:
        return address, ""
    own = Path(settings.ca_directory) / CA_FILE
    file = args.ca_file or (Path(settings.ca_file) if settings.ca_file else own)
    if file != own or own.is_file():
        return address, _pem(read_document(file), file)
    if not address.is_loopback:
        raise ConfigInvalid(
            f"An agent that calls {address} over the network must know whom to trust, and there is"
            f" no {own}: make an authority with `jobledger agents ca init`, or give --ca-file or"
            " --system-ca"
        )
    if args.issue_certificate:
        raise ConfigInvalid(f"There is no {own}: `jobledger agents ca init` makes an authority")
    return address, None


def _pem(text: str, file: Path) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
        raise BadInput(f"{file} is not the certificate of an authority")
    return text


def _issued(args: argparse.Namespace, context: Context, name: str) -> Pair | None:
    if not args.issue_certificate:
        return None
    if not 1 <= args.days <= DAYS * 10:
        raise BadUsage(f"--days must be from 1 to {DAYS * 10}")
    authority = load_authority(Path(context.config.agents.ca_directory))
    return for_agent(authority, name, context.now_s(), args.days)


def _code(
    name: str,
    clusters: tuple[str, ...],
    address: Address,
    token: str,
    ca: str | None,
    pair: Pair | None,
) -> Code:
    return Code(
        agent=name,
        clusters=clusters,
        address=str(address),
        tls=ca is not None,
        token=token,
        ca=ca or "",
        certificate=pair.certificate.decode() if pair else "",
        key=pair.key.decode() if pair else "",
    )


def _deliver(args: argparse.Namespace, context: Context, code: Code, done: str) -> None:
    if args.json:
        clusters = list(code.clusters)
        json_line(context.out, {"agent": code.agent, "clusters": clusters, "code": encode(code)})
        return
    say(context.out, encode(code))
    say(context.err, f"{done} The code above is its secret, and is not kept here: give it to")
    say(context.err, "`jobledger-agent enroll` on the agent's machine (it reads standard input).")
