"""The integer network in other people's formats. Imports `network`."""
