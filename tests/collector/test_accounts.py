"""Accounts: who pays for a Slurm account, and documents that say so."""

import pytest

from jobledger_collector.core.accounts import NO_ACCOUNTS, UNASSIGNED, AccountBook, Payer
from jobledger_collector.core.node import InvalidDocument
from jobledger_collector.store.accounts import read_accounts

DOCUMENT = """\
schema: jobledger.accounts/1
accounts:
  - id: physics
    name: Department of Physics
    name_th: ภาควิชาฟิสิกส์
    tier: mu
    tax_id: "0994000158378"
    contact: {name: Somchai, email: office@example.ac.th}
    slurm: [phys_theory, "alpha:shared"]
  - id: acme
    name: Acme
    tier: private
    slurm: ["*:acme:2024", "beta:shared"]
"""


def a_book(text: str = DOCUMENT) -> AccountBook:
    return read_accounts(text, "accounts.yaml", ("mu", "gov", "private"))


@pytest.mark.parametrize(
    ("cluster", "slurm_account", "payer"),
    [
        ("alpha", "phys_theory", Payer("physics", "mu")),
        ("beta", "phys_theory", Payer("physics", "mu")),
        ("alpha", "shared", Payer("physics", "mu")),  # a cluster's own mapping
        ("beta", "shared", Payer("acme", "private")),
        ("gamma", "shared", Payer("shared", "")),  # not mapped there: its own name
        ("gamma", "acme:2024", Payer("acme", "private")),
        ("alpha", "chem", Payer("chem", "")),
        ("alpha", "physics", Payer("physics", "mu")),  # own name, and that account is declared
        ("alpha", "", Payer(UNASSIGNED, "")),
    ],
)
def test_who_pays(cluster: str, slurm_account: str, payer: Payer) -> None:
    book = a_book()
    assert book.payer(cluster, slurm_account) == payer
    assert book.payer(cluster, slurm_account) == payer  # and again, from memory


def test_a_cluster_mapping_beats_one_for_any_cluster() -> None:
    text = DOCUMENT.replace('"beta:shared"', '"*:shared"')
    assert a_book(text).payer("alpha", "shared").billing_account == "physics"
    assert a_book(text).payer("beta", "shared").billing_account == "acme"


def test_without_a_document_everyone_pays_under_their_own_name() -> None:
    assert NO_ACCOUNTS.payer("alpha", "chem") == Payer("chem", "")
    assert NO_ACCOUNTS.account("chem").name == "chem"
    assert not NO_ACCOUNTS.account("chem").declared


def test_an_account_keeps_all_that_documents_print() -> None:
    account = a_book().accounts["physics"]
    assert account.name_th == "ภาควิชาฟิสิกส์"
    assert account.tax_id == "0994000158378"
    assert (account.contact_name, account.contact_email) == ("Somchai", "office@example.ac.th")
    assert account.declared


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("tier: mu", "tier: gvo", "line 6", 'did you mean "gov"'),
        ("name_th:", "nameth:", "line 5", 'did you mean "name_th"'),
        ("id: acme", "id: physics", "line 10", "there twice"),
        ("id: acme", 'id: ""', "line 10", "printable text"),
        ('"0994000158378"', "1994000158378", "line 7", "with the quotes"),
        ("beta:shared", "alpha:shared", "line 13", 'already paid by "physics"'),
        ("beta:shared", ":shared", "line 13", '"cluster:account"'),
        ("office@example.ac.th", "office", "line 8", "e-mail"),
        ("name: Acme", 'name: " "', "line 11", "must not be empty"),
        ("jobledger.accounts/1", "jobledger.ratecard/1", "line 1", "did you mean"),
        ("tax_id", "slurm", "line 9", "there twice"),
        ("accounts:\n", "accounts: 7\nrest:\n", "line 2", "unknown key|must be a list"),
    ],
)
def test_a_wrong_document_is_refused_where_it_is_wrong(
    old: str, new: str, where: str, said: str
) -> None:
    assert old in DOCUMENT
    with pytest.raises(InvalidDocument, match=said) as refused:
        a_book(DOCUMENT.replace(old, new, 1))
    assert where in str(refused.value) or "unknown key" in str(refused.value)
    assert str(refused.value).startswith("accounts.yaml")
