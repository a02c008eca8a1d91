"""What a running Slurm is asked when, and what an answer moves."""
