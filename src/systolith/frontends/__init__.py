"""From models of other frameworks to the integer network. Imports `network`, `quant` and the ground floor."""
