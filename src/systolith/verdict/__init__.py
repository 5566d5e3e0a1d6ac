"""What RTL dumped (files, logs, waveforms) against a bundle; the known mistakes. Imports `vectors`."""
