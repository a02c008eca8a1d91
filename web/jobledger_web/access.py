"""Who may see what: one closed list of permissions, and no view without one.

``create_app`` refuses to start when any route carries neither ``requires`` nor
``public``, so a forgotten decorator is a failed start and never an open page.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

from jobledger_collector.store.usage_views import Scope

POLICY = "jobledger_policy"
"""Attribute of a view function that holds its permission, or PUBLIC."""

View = TypeVar("View", bound=Callable[..., object])


class Permission(Enum):
    """Everything that a signed-in person may be allowed to do."""

    SELF = "self"
    """Sign out, change one's own password."""
    USAGE_READ = "usage:read"
    """Jobs and what they cost; which jobs is a matter of ``Scope``."""
    INVOICE_READ = "invoice:read"
    """Invoices; which ones is a matter of ``Scope``."""
    PRICES_READ = "prices:read"
    """The price list: SKUs and their prices by tier."""
    RATE_CARD_READ = "rate-card:read"
    """Whole rate cards, with the overrides agreed with single payers."""
    QUARANTINE_READ = "quarantine:read"
    """Records that could not be stored, as they came."""
    AGENTS_READ = "agents:read"
    """Which agents report, and how far each has come."""


class Role(Enum):
    """What a person is to the books; the names are those of the people table."""

    ADMIN = "admin"
    FINANCE = "finance"
    MEMBER = "member"


GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.FINANCE: frozenset(Permission),
    Role.MEMBER: frozenset(
        {
            Permission.SELF,
            Permission.USAGE_READ,
            Permission.INVOICE_READ,
            Permission.PRICES_READ,
        }
    ),
}


class Public(Enum):
    """The policy of a route that needs nobody to be signed in."""

    PUBLIC = "public"


class Viewer(NamedTuple):
    """The person who is signed in, as every view knows them."""

    login: str
    role: Role
    scope: Scope | None
    """Which jobs and invoices they see: None is everything (admin and finance)."""
    must_change: bool

    def may(self, permission: Permission) -> bool:
        """Say whether the person's role grants ``permission``."""
        return permission in GRANTS[self.role]


class UnguardedRoute(Exception):
    """A route without an access policy: the program must not start."""


def scope_of(role: Role, slurm_user: str, accounts: str) -> Scope | None:
    """Return what a person sees; ``accounts`` is the people table's comma-separated text.

    A member sees the jobs that ``slurm_user`` ran, and the jobs and invoices of
    the billing accounts listed; with neither, nothing.
    """
    if role is not Role.MEMBER:
        return None
    named = frozenset(part.strip() for part in accounts.split(",") if part.strip())
    return Scope(user=slurm_user, accounts=named)


def requires(permission: Permission) -> Callable[[View], View]:
    """Let only people whose role grants ``permission`` reach the view."""

    def mark(view: View) -> View:
        setattr(view, POLICY, permission)
        return view

    return mark


def public(view: View) -> View:
    """Let anybody reach the view."""
    setattr(view, POLICY, Public.PUBLIC)
    return view


def policy_of(view: Callable[..., object]) -> Permission | Public | None:
    """Return the policy of a view, or None where it was forgotten."""
    found: Permission | Public | None = getattr(view, POLICY, None)
    return found


def refuse_unguarded(views: Mapping[str, Callable[..., object]]) -> None:
    """Raise UnguardedRoute when a view carries no policy; ``views`` is by endpoint."""
    forgotten = sorted(name for name, view in views.items() if policy_of(view) is None)
    if forgotten:
        msg = (
            f"These routes say neither @requires(...) nor @public: {', '.join(forgotten)}."
            " Decide who may reach them and decorate their views."
        )
        raise UnguardedRoute(msg)
