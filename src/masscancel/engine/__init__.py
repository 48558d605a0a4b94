"""The engine: takes a venue's flows to their end, and proves that a scope is flat."""
