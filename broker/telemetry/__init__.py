"""What can be seen of a running broker: spans (spans.py), metrics (metrics.py) and log lines (logs.py), each name once.

Who uses them sees the API of OpenTelemetry only. What sends them anywhere is set up at the start (exporters.py), and
without that costs next to nothing.
"""
