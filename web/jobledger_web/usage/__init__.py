"""What jobs used and cost."""
