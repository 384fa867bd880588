"""The service config of a caller who minds nothing that a replica does as it comes and goes."""

from typing import Final

# What a caller's configuration says: any replica will do that says it serves, and one that can't answer is no failure.
SERVICE_CONFIG: Final = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "tokenbroker.v1.TokenBroker"},
    "methodConfig": [
        {
            "name": [{"service": "tokenbroker.v1.TokenBroker"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
