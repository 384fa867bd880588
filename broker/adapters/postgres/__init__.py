"""The InstallStore on Postgres 15 to 18."""
