"""Read an accounts document: the schema ``jobledger.accounts/1``.

The document is the whole truth about who pays: loading it replaces what an
earlier one said.
"""

import re
from collections.abc import Mapping
from typing import Final

from jobledger_collector.core.accounts import ANY_CLUSTER, AccountBook, BillingAccount
from jobledger_collector.core.node import Node

SCHEMA: Final = "jobledger.accounts/1"
MAX_ACCOUNTS: Final = 10_000
MAX_SLURM_ACCOUNTS: Final = 10_000
EMAIL_PATTERN: Final = re.compile(r"[^@\s]+@[^@\s]+")
OPTIONAL: Final = ("name_th", "tier", "address", "tax_id", "contact", "slurm")


def parse_accounts(document: Node, tiers: tuple[str, ...] = ()) -> AccountBook:
    """Return who pays for what by a document; raises InvalidDocument.

    ``tiers`` are those of the card in force; () when there is no card yet, and
    then any tier is taken.
    """
    fields = document.fields(("schema", "accounts"))
    fields["schema"].choice((SCHEMA,))
    entries = fields["accounts"].items()
    if len(entries) > MAX_ACCOUNTS:
        fields["accounts"].refuse(f"holds more than {MAX_ACCOUNTS} accounts")
    accounts: dict[str, BillingAccount] = {}
    slurm: dict[tuple[str, str], str] = {}
    for entry in entries:
        account = _account(entry, tiers)
        if account.id in accounts:
            entry.refuse(f'the account "{account.id}" is there twice')
        accounts[account.id] = account
        _map_slurm(entry.mapping().get("slurm"), account.id, slurm)
    return AccountBook(accounts, slurm)


def _account(entry: Node, tiers: tuple[str, ...]) -> BillingAccount:
    fields = entry.fields(("id", "name"), OPTIONAL)
    account_id = fields["id"].text()
    if not account_id or account_id != account_id.strip() or not account_id.isprintable():
        fields["id"].refuse("must be a printable text without blanks around it")
    contact = fields["contact"].fields((), ("name", "email")) if "contact" in fields else {}
    return BillingAccount(
        id=account_id,
        name=_filled(fields["name"]),
        tier=_tier(fields["tier"], tiers) if "tier" in fields else "",
        name_th=_text(fields, "name_th"),
        address=_text(fields, "address"),
        tax_id=_text(fields, "tax_id"),
        contact_name=_text(contact, "name"),
        contact_email=_email(contact["email"]) if "email" in contact else "",
    )


def _text(fields: Mapping[str, Node], key: str) -> str:
    return fields[key].text() if key in fields else ""


def _filled(node: Node) -> str:
    text = node.text()
    if not text.strip():
        node.refuse("must not be empty: it is printed on documents")
    return text


def _tier(node: Node, tiers: tuple[str, ...]) -> str:
    return node.choice(tiers) if tiers else node.name()


def _email(node: Node) -> str:
    text = node.text()
    if text and not EMAIL_PATTERN.fullmatch(text):
        node.refuse(f'"{text}" is not an e-mail address')
    return text


def _map_slurm(node: Node | None, account_id: str, slurm: dict[tuple[str, str], str]) -> None:
    """Add "cluster:account" or "account" (on any cluster); each has one payer."""
    for entry in node.items() if node else ():
        cluster, colon, name = entry.text().partition(":")
        key = (cluster, name) if colon else (ANY_CLUSTER, cluster)
        if not all(key):
            entry.refuse('write "account" or "cluster:account"')
        if key in slurm:
            entry.refuse(f'"{entry.text()}" is already paid by "{slurm[key]}"')
        if len(slurm) >= MAX_SLURM_ACCOUNTS:
            entry.refuse(f"there are more than {MAX_SLURM_ACCOUNTS} Slurm accounts")
        slurm[key] = account_id
