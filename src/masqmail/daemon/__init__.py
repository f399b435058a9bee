"""The running program: `wiring` knows every class, `scheduler` decides when, `control` answers the commands."""
