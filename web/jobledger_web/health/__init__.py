"""Health and metrics: for probes and Prometheus, not for people."""
