"""Who pays: from the Slurm account that a run was under to a billing account."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

UNASSIGNED: Final = "unassigned"
"""Billing account of runs that Slurm recorded without an account."""
ANY_CLUSTER: Final = "*"


class Payer(NamedTuple):
    """The billing account that pays, and its tier ("" for the card's default)."""

    billing_account: str
    tier: str


@dataclass(frozen=True, slots=True)
class BillingAccount:
    """Who is invoiced, as the accounts document says it.

    ``tier`` "" means the rate card's default tier. ``declared`` is False for an
    account that no document names: it is known only by its Slurm name.
    """

    id: str
    name: str
    name_th: str = ""
    tier: str = ""
    address: str = ""
    tax_id: str = ""
    contact_name: str = ""
    contact_email: str = ""
    declared: bool = True


SlurmAccounts = Mapping[tuple[str, str], str]
"""(cluster or ANY_CLUSTER, Slurm account) -> billing account id."""


@dataclass(frozen=True, slots=True)
class AccountBook:
    """All billing accounts and which Slurm accounts each pays for."""

    accounts: Mapping[str, BillingAccount]
    slurm: SlurmAccounts
    _found: dict[tuple[str, str], Payer] = field(default_factory=dict, compare=False, repr=False)

    def payer(self, cluster: str, slurm_account: str) -> Payer:
        """Return who pays for runs of this Slurm account on this cluster.

        A mapping for the cluster beats one for any cluster; without either the
        Slurm account pays under its own name, and no account is "unassigned".
        """
        key = (cluster, slurm_account)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look_up(cluster, slurm_account)
        return found

    def account(self, account_id: str) -> BillingAccount:
        """Return the account; one that no document names is known by its id alone."""
        known = self.accounts.get(account_id)
        return known or BillingAccount(id=account_id, name=account_id, declared=False)

    def _look_up(self, cluster: str, slurm_account: str) -> Payer:
        own_name = slurm_account or UNASSIGNED
        mapped = self.slurm.get((cluster, slurm_account)) or self.slurm.get(
            (ANY_CLUSTER, slurm_account), own_name
        )
        return Payer(mapped, self.account(mapped).tier)


NO_ACCOUNTS: Final = AccountBook(accounts={}, slurm={})
