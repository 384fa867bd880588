"""What a broker would meet if it started here and now: looked at, told line by line, and left as it is (docs/doctor.md).

Beside app.py and entrance.py this package knows the adapters: it asks each the question that a start would ask it, and
starts nothing. One file a subject; checks.py lists them in the order in which they are told.
"""

from broker.doctor.checks import CHECKS
from broker.doctor.examination import Report, examine
from broker.doctor.findings import Finding, Line, Weight

__all__ = ["CHECKS", "Finding", "Line", "Report", "Weight", "examine"]
