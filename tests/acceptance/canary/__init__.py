"""A house whose every secret is marked, the outsiders that try its doors, and the search for the marks."""
