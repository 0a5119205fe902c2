"""The `skdn` command: one file a verb; each parses, calls one library function, and prints."""
