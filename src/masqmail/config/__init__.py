"""The configuration: TOML to frozen values, with every fault in one run.

Start in `load`. `model` and `routes` are the values, `sections` puts them together with the help of `reader`
(tables) and `values` (single values), `rules` compares settings with each other, `unsupported` refuses by name.
`faults` and `lines` say what is wrong and where. `check` gives advice, `show` prints what is in effect, and
`reference` makes the settings' page.
"""
