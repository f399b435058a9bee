"""What should happen to a recipient: pure policy over values.

`decide` turns recipients, link states, routes and time into decisions with reasons; `settle` turns outcomes
into the next state; `alias`, `rewrite`, `pattern` and `local` are what those two ask.
"""
