"""What recognises equal values that are stored as hashes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, LargeBinary
from sqlmodel import Field

from multishadow_server.adapters.postgres.tables.base import MOMENT, Table


class HashKeyRow(Table, table=True):
    """The deployment's key for hashes: one row, made by whoever needs it first.

    `key` is null where the key is a setting: then `proof` tells a process that was given another one.
    """

    __tablename__ = "hash_key"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    key: bytes | None = Field(default=None, sa_type=LargeBinary)
    proof: bytes = Field(sa_type=LargeBinary)
    made_at: datetime = Field(sa_type=MOMENT)
