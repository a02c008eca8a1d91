"""How the service runs: quarantine and agents."""
