"""What all tables share: where they are registered, and how their keys are named."""

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

# SQLite only auto-numbers a column of exactly INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")
