"""A deterministic simulation of the delivery of records, over the production code."""
