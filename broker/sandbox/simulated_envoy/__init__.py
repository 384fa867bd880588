"""A simulated Envoy (envoy.com): its token endpoint, its webhooks, and a ledger of what was asked of it.

`SimulatedEnvoy` is the door for the sandbox and the tests; over HTTP, ``GET /`` lists the endpoints.
Every token it issues is an unmistakable fake, and all its state is lost when it stops.
"""

from broker.sandbox.simulated_envoy.app import SimulatedEnvoy
from broker.sandbox.simulated_envoy.clients import SimulatedApp
from broker.sandbox.simulated_envoy.server import server_config

__all__ = ["SimulatedApp", "SimulatedEnvoy", "server_config"]
