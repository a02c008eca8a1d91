"""What is known of a cluster's accounts, users, associations and QOS: the agent's second record.

Slurm keeps no history of them, so that a bill can only follow the account tree
as it was if somebody looked at the time. An entry holds from when it was
observed until a later one of the same kind and name.
"""

import enum
from typing import NamedTuple


class TreeKind(enum.IntEnum):
    """``TreeKind`` of ``usage.proto``."""

    ACCOUNT = 1
    USER = 2
    ASSOCIATION = 3
    QOS = 4


class TreeEntry(NamedTuple):
    """One entry as it was at ``observed`` (epoch seconds).

    ``name`` is the account, login or QOS, or an association's numeric id;
    ``attributes`` are sorted pairs, their names listed in ``usage.proto``, empty
    ones left out. ``gone``: Slurm no longer lists it.
    """

    cluster: str
    kind: TreeKind
    name: str
    attributes: tuple[tuple[str, str], ...]
    gone: bool
    observed: int
