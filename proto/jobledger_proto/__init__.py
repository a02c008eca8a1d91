"""The contract between agents and collectors."""
