"""Protections that cancel when nobody can: on exit, on silence, from another process."""
