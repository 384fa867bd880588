"""The console: read-only pages of the operations port. Each is an operation of the API by the policy and on the record.

Nothing is loaded from elsewhere, nothing runs in the browser, and nothing of a page is kept by it.
"""

from broker.web.console.door import Door
from broker.web.console.pages import console_routes
from broker.web.console.replica import Replica, Shown

__all__ = ["Door", "Replica", "Shown", "console_routes"]
