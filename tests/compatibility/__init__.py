"""The release before this one, kept: its contract as a descriptor, its spools as files."""
