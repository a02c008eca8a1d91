"""From the spool to the collector, and the comparison with it."""
