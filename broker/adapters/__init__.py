"""The ports, implemented. Only app.py imports from here."""
