"""How often a password may be tried, counted in the database.

So it holds across threads, processes and restarts.

An attempt is counted before the password is looked at and taken back when it
was right. At the limit nothing is counted any more and every attempt is
refused, right or wrong, until the oldest window has passed.
"""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from jobledger_collector.store import sessions as store
from jobledger_web.database import Connection

WINDOW_S: Final = 5 * 60
"""Attempts are counted in windows of this length."""
SPAN_S: Final = 15 * 60
"""Windows that began within this time count; also the longest lock."""
PER_LOGIN: Final = 5
"""Attempts at one login, from wherever they come."""
PER_ADDRESS: Final = 30
"""Attempts from one address, at whichever logins: a campus may share one."""
LOGIN_CHARACTERS: Final = 64
"""Longest login; a longer one is nobody's."""
IPV6_SITE_BITS: Final = 64
"""One IPv6 customer has a whole /64 to try from."""


def _login_scope(login: str) -> str:
    return f"login:{login[:LOGIN_CHARACTERS]}"


def _address_scope(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return "addr:unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return f"addr:{parsed.ipv4_mapped}"
        return f"addr:{ip_network((parsed, IPV6_SITE_BITS), strict=False)}"
    return f"addr:{parsed}"


def _window(now: int) -> int:
    return now - now % WINDOW_S


def admit(conn: Connection, login: str, address: str, now: int) -> bool:
    """Say whether an attempt may go on, and count it if so."""
    window, since = _window(now), now - SPAN_S
    by_address = store.count_attempt(conn, _address_scope(address), window, since)
    by_login = store.count_attempt(conn, _login_scope(login), window, since)
    if by_login <= PER_LOGIN and by_address <= PER_ADDRESS:
        return True
    # A refused attempt does not lengthen the lock, or anybody could keep it for ever.
    store.uncount_attempt(conn, _address_scope(address), window)
    store.uncount_attempt(conn, _login_scope(login), window)
    return False


def welcome(conn: Connection, login: str, address: str, now: int) -> None:
    """The password was right: the login starts afresh, the address gets its attempt back."""
    store.forgive(conn, _login_scope(login))
    store.uncount_attempt(conn, _address_scope(address), _window(now))
