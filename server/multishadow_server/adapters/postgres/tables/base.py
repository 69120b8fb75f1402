"""What all tables share."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    DateTime,
    MetaData,
    Numeric,
    String,
)
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

# Every constraint has a name that a migration can drop and an error message can be understood by.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
MOMENT = DateTime(timezone=True)
NAME_LIST = ARRAY(String())

# A count must hold Σs² with s = round(10⁶·similarity): 10¹² per comparison overflows bigint after nine million.
COUNT = Numeric(39, 0)


class Table(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMES))):
    """Base of all tables: a metadata of their own."""
