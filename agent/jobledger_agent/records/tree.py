"""What is known of a cluster's accounts, users, associations and QOS: the agent's second record.

Slurm keeps no history of them, so that a bill can only follow the account tree
as it was if somebody looked at the time. An entry holds from when it was
observed until a later one of the same kind and name. Pure.
"""

import enum
import json
import zlib
from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

ROOT: Final = "root"
"""The account that every cluster has: a tree without it is not all of it."""
MAX_ENTRIES: Final = 500_000
"""Of one cluster's tree; ten times the largest that is known of."""
EVERY_S: Final = 3_600
"""How often the tree is looked at."""
WHOLE_EVERY_S: Final = 86_400
"""How often all of it is told, changed or not."""
_ID_DIGITS: Final = 10
_DIGEST_BITS: Final = 32
_DIGEST_MASK: Final = (1 << _DIGEST_BITS) - 1


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


def seen(cluster: str, observed: int) -> Callable[..., TreeEntry]:
    """What makes entries of a cluster as of one time, from ``(kind, name, *pairs)``.

    Pairs without a value are left out.
    """

    def entry(kind: TreeKind, name: str, *attributes: tuple[str, str]) -> TreeEntry:
        told = tuple(sorted((key, value) for key, value in attributes if value))
        return TreeEntry(cluster, kind, name, told, gone=False, observed=observed)

    return entry


class TreeMark(NamedTuple):
    """When the tree was last read and last told as a whole (epoch s), and what it was.

    ``told`` is a packed ``Told``: every name with a digest of its attributes.
    """

    read_at: int = 0
    whole_at: int = 0
    told: str = ""


class Told:
    """Names and digests of a tree; an association takes nine bytes, for there are many."""

    def __init__(self) -> None:
        self._named: dict[int, dict[str, int]] = {}
        self._associations = array("Q")
        """Id and digest of each in one number; in order once unpacked."""
        self._seen = bytearray()

    def __len__(self) -> int:
        return len(self._associations) + sum(map(len, self._named.values()))

    def add(self, entry: TreeEntry) -> None:
        """Take an entry in."""
        digest, number = _digest(entry), _number(entry)
        if number is None:
            self._named.setdefault(entry.kind, {})[entry.name] = digest
        else:
            self._associations.append(number << _DIGEST_BITS | digest)

    @property
    def is_whole(self) -> bool:
        """Whether the root account and at least one association are there."""
        accounts = self._named.get(TreeKind.ACCOUNT, {})
        # An old slurmrestd tells associations without ids: they are kept by name.
        associations = self._associations or self._named.get(TreeKind.ASSOCIATION)
        return ROOT in accounts and bool(associations)

    def packed(self) -> str:
        """All of it as text."""
        named = json.dumps(self._named, sort_keys=True, separators=(",", ":"))
        ordered = array("Q", sorted(self._associations))
        parts = (zlib.compress(named.encode(), 1), ordered.tobytes())
        return ".".join(b64encode(part).decode() for part in parts)

    @classmethod
    def unpacked(cls, text: str) -> "Told":
        """What a text says; nothing if it is not ours: then all of the tree is news."""
        told = cls()
        try:
            named, associations = (b64decode(part, validate=True) for part in text.split("."))
            for kind, names in json.loads(zlib.decompress(named)).items():
                told._named[TreeKind(int(kind))] = {
                    str(name): int(digest) for name, digest in names.items()
                }
            told._associations.frombytes(associations)
        except (ValueError, TypeError, AttributeError, zlib.error):
            return cls()
        told._seen = bytearray(len(told._associations))
        return told

    def is_news(self, entry: TreeEntry) -> bool:
        """Whether an unpacked tree did not have this entry so. Ticks it off: it is not gone."""
        digest, number = _digest(entry), _number(entry)
        if number is None:
            return self._named.get(entry.kind, {}).pop(entry.name, -1) != digest
        at = bisect_left(self._associations, number << _DIGEST_BITS)
        if at == len(self._associations) or self._associations[at] >> _DIGEST_BITS != number:
            return True
        self._seen[at] = 1
        return self._associations[at] & _DIGEST_MASK != digest

    def gone(self, cluster: str, observed: int) -> Iterator[TreeEntry]:
        """One entry for each that was not ticked off."""
        for kind, names in sorted(self._named.items()):
            for name in sorted(names):
                yield TreeEntry(cluster, TreeKind(kind), name, (), gone=True, observed=observed)
        for packed, seen in zip(self._associations, self._seen, strict=True):
            if not seen:
                name = str(packed >> _DIGEST_BITS)
                yield TreeEntry(
                    cluster, TreeKind.ASSOCIATION, name, (), gone=True, observed=observed
                )


def news(
    entries: Iterable[TreeEntry], before: Told, after: Told, *, whole: bool
) -> Iterator[TreeEntry]:
    """Those of the entries that are new or changed, or all if ``whole``.

    ``after`` gets every entry, ``before`` keeps what is gone.
    """
    for entry in entries:
        after.add(entry)
        if before.is_news(entry) or whole:
            yield entry


def _number(entry: TreeEntry) -> int | None:
    """The id of an association; None for what is named, or is no id of Slurm's."""
    if entry.kind is not TreeKind.ASSOCIATION or len(entry.name) > _ID_DIGITS:
        return None
    number = int(entry.name) if entry.name.isdecimal() else _DIGEST_MASK + 1
    return number if number <= _DIGEST_MASK and str(number) == entry.name else None


def _digest(entry: TreeEntry) -> int:
    text = json.dumps(entry.attributes).encode()
    return int.from_bytes(blake2b(text, digest_size=_DIGEST_BITS // 8).digest())
