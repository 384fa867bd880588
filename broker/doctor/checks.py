"""The checks, in the order in which they are told."""

from datetime import timedelta
from typing import Final

from broker.doctor import (
    addresses,
    audit,
    caller_keys,
    certificates,
    clock,
    collector,
    configuration,
    database,
    keys,
    policy,
    pool,
    process,
    provider,
    role,
    schema,
    seals,
)
from broker.doctor.examination import Check

# A file, or what the process knows of itself.
NEAR: Final = timedelta(seconds=5)
# What is asked over the network, connecting included.
FAR: Final = timedelta(seconds=15)

CHECKS: Final = (
    Check("configuration", configuration.look, NEAR),
    Check("keys", keys.look, FAR),  # a KMS may unwrap them
    Check("database", database.look, FAR),
    Check("role", role.look, FAR),
    Check("schema", schema.look, FAR),
    Check("seals", seals.look, FAR),
    Check("pool", pool.look, FAR),
    Check("clock", clock.look, FAR),
    Check("provider", provider.look, FAR),
    Check("certificates", certificates.look, NEAR),
    Check("caller keys", caller_keys.look, FAR),
    Check("policy", policy.look, NEAR),
    Check("audit", audit.look, NEAR),
    Check("collector", collector.look, FAR),
    Check("addresses", addresses.look, NEAR),
    Check("process", process.look, NEAR),
)
