"""The agent at work, and what it says of itself."""
