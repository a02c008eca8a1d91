"""Connections to the books: the one place where the web opens a transaction."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from flask import Flask, current_app, g

from jobledger_collector.core.errors import DatabaseFailed
from jobledger_collector.store import engine as store
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.operations_views import is_reachable
from jobledger_web.config import WebConfig

__all__ = [
    "Connection", "Site", "attach", "is_ready", "reading", "reading_later", "settings", "site",
    "writing",
]  # fmt: skip

_SITE = "jobledger"


@dataclass(frozen=True, slots=True)
class Site:
    """What a running web is made of, beside its routes."""

    config: WebConfig
    engine: Engine


def attach(app: Flask, config: WebConfig) -> None:
    """Give ``app`` its settings and its database; connects to nothing yet."""
    app.extensions[_SITE] = Site(config, store.open_engine(config.database_url))


def site() -> Site:
    """The running web."""
    found: Site = current_app.extensions[_SITE]
    return found


def settings() -> WebConfig:
    """The configuration that the web was started with."""
    return site().config


def reading() -> AbstractContextManager[Connection]:
    """A transaction that only reads: one moment of the books for everything in it."""
    return store.reading(site().engine)


def reading_later() -> Callable[[], AbstractContextManager[Connection]]:
    """What ``reading`` does, for when the request is over and its answer is still written."""
    return partial(store.reading, site().engine)


@contextmanager
def writing() -> Iterator[Connection]:
    """A transaction that writes: committed at its end, rolled back on any error."""
    with store.transaction(site().engine) as conn:
        yield conn


def is_ready() -> bool:
    """Say whether the database answers and holds our tables."""
    try:
        with reading() as conn:
            return is_reachable(conn)
    except DatabaseFailed as error:
        g.database_error = str(error)
        return False
