"""What was read and not yet acknowledged, on disk."""
