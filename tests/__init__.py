"""The broker's tests: see CONTRIBUTING.md for what goes where."""
