"""A small service in each language, and the runner that shows it beside a sandbox: `make example-go` and so on."""
