"""The rules: pure functions over frozen types, the standard library only."""
