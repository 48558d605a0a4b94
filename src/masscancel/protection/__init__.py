"""What cancels when nobody can: on exit, on silence, from another process."""
