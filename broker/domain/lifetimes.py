"""How long a token lives whose lifetime Envoy does not say."""

from datetime import timedelta
from typing import Final

# Envoy documents 24 hours, and 12 in an older example: taking less refreshes early, taking more serves
# dead tokens.
DEFAULT_LIFETIME: Final = timedelta(hours=1)
# Beyond it a number is no lifetime but a mistake, a Unix time for one, and tells us nothing.
LONGEST_LIFETIME: Final = timedelta(days=3650)
