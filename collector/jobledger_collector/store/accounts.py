"""Billing accounts and the Slurm accounts that each pays for."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from jobledger_collector.core.account_schema import parse_accounts
from jobledger_collector.core.accounts import AccountBook, BillingAccount
from jobledger_collector.store.cards import bump_generation, load_book, lock_books
from jobledger_collector.store.schema import account_map, billing_accounts
from jobledger_collector.store.yaml_nodes import read_nodes

TEXTS: Final = (
    "name", "name_th", "tier", "address", "tax_id", "contact_name", "contact_email",
)  # fmt: skip


class LoadedAccounts(NamedTuple):
    """What a document declared, and whether it differs from what was known."""

    book: AccountBook
    changed: bool


def read_accounts(text: str, file: str, tiers: tuple[str, ...] = ()) -> AccountBook:
    """Return who pays by a YAML document; raises InvalidDocument with file and line."""
    return parse_accounts(read_nodes(text, file), tiers)


def load_accounts(conn: Connection, text: str, file: str) -> LoadedAccounts:
    """Make a document the whole truth about who pays; the same again changes nothing.

    Accounts that it no longer names are kept as undeclared, because runs and
    invoices name them. Raises InvalidDocument, also for a tier that the newest
    rate card does not have.
    """
    lock_books(conn)
    cards = load_book(conn).cards
    new = read_accounts(text, file, cards[-1].tiers if cards else ())
    old = load_account_book(conn)
    declared = {name: account for name, account in old.accounts.items() if account.declared}
    if (declared, old.slurm) == (new.accounts, new.slurm):
        return LoadedAccounts(new, changed=False)
    conn.execute(delete(account_map))
    conn.execute(
        update(billing_accounts).values(
            name=billing_accounts.c.id, declared=0, **dict.fromkeys(TEXTS[1:], "")
        )
    )
    for account in new.accounts.values():
        _store(conn, account, known=account.id in old.accounts)
    for (cluster, slurm_account), payer in new.slurm.items():
        conn.execute(
            insert(account_map).values(
                cluster=cluster, slurm_account=slurm_account, billing_account=payer
            )
        )
    bump_generation(conn)
    return LoadedAccounts(new, changed=True)


def load_account_book(conn: Connection) -> AccountBook:
    """Return all billing accounts and their Slurm accounts."""
    columns = [billing_accounts.c[name] for name in ("id", *TEXTS, "declared")]
    accounts = {}
    for row in conn.execute(select(*columns)):
        texts = dict(zip(TEXTS, row[1:-1], strict=True))
        accounts[row[0]] = BillingAccount(id=row[0], declared=bool(row[-1]), **texts)
    slurm = {
        (row.cluster, row.slurm_account): row.billing_account
        for row in conn.execute(select(account_map))
    }
    return AccountBook(accounts, slurm)


def _store(conn: Connection, account: BillingAccount, *, known: bool) -> None:
    values = {name: getattr(account, name) for name in TEXTS} | {"declared": 1}
    if known:
        where = billing_accounts.c.id == account.id
        conn.execute(update(billing_accounts).where(where).values(**values))
    else:
        conn.execute(insert(billing_accounts).values(id=account.id, **values))
