"""What a person asks of the agent: one module a command."""
