"""Long runs that try to break the promises, and the page that says what was seen: ``python -m reliability``."""
