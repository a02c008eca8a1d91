"""Rate cards and price lists."""
