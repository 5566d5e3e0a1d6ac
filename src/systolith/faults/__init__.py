"""Hardware faults on the array, and which of them a bundle's golden files reveal. Imports `stimulus`."""
