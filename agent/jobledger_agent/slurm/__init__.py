"""Asking a running Slurm: by which way, and what proves an answer."""
