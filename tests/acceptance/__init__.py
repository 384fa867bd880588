"""Tests: the README's commands and the user's samples, in real processes."""
