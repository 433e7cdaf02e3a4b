"""What several tests need; nothing here knows rdknotify's clients."""
