"""What the command line does beside serving, with the adapters that it may not know: keys, policies, trails, the schema."""

from broker.adapters import audit as audit_trails
from broker.adapters import keys as keysets
from broker.adapters import policy as policies
from broker.adapters.postgres import resealing
from broker.adapters.postgres.grants import grant_serving
from broker.adapters.postgres.migrate import MigrationChanged, migrate

__all__ = [
    "MigrationChanged",
    "audit_trails",
    "grant_serving",
    "keysets",
    "migrate",
    "policies",
    "resealing",
]
