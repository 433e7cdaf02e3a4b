"""The C libraries inside the extension: obtained, verified, compiled."""
