"""Made-up integers for a layer of any shape: seeded random ones and directed corner cases. Imports `vectors`."""
