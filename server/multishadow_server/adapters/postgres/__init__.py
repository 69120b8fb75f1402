"""The store: every port that PostgreSQL makes real.

`open_engine` gives the connection pool that the stores share; whoever opened it disposes of it.
"""

from multishadow_server.adapters.postgres.configuration import PostgresConfiguration
from multishadow_server.adapters.postgres.control import PostgresControl
from multishadow_server.adapters.postgres.engine import open_engine
from multishadow_server.adapters.postgres.live_counts import PostgresLiveCounts
from multishadow_server.adapters.postgres.migration import migrate
from multishadow_server.adapters.postgres.observations import PostgresObservations
from multishadow_server.adapters.postgres.processes import PostgresProcesses
from multishadow_server.adapters.postgres.retention import PostgresRetention
from multishadow_server.adapters.postgres.rollouts import PostgresRollouts

__all__ = [
    "PostgresConfiguration",
    "PostgresControl",
    "PostgresLiveCounts",
    "PostgresObservations",
    "PostgresProcesses",
    "PostgresRetention",
    "PostgresRollouts",
    "migrate",
    "open_engine",
]
