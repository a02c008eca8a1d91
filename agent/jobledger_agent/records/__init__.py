"""What is known of runs and of the account tree: frozen types."""
