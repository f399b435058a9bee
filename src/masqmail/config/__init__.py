"""The configuration: `model` (frozen values), `load` (TOML to values, every fault at once), `check` (advice)."""
