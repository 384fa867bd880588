"""The chart and the compose file: what they say is given to the broker's own settings, so that they can't drift."""
