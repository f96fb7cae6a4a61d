"""The live path between a source and the sinks."""
