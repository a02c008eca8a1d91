"""Names of what the store hands out, for annotations outside it."""

from sqlalchemy import Connection, Engine

__all__ = ["Connection", "Engine"]
