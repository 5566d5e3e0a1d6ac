"""Other people's RTL with its own testbench: a `core.toml` says what it is, what it reads and what it says."""
