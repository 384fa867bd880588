"""The simulation: the broker's own services over a simulated clock, database, Envoy and network.

A seed decides everything, so a run that fails can be run again. `python -m tests.simulation --help`.
"""
