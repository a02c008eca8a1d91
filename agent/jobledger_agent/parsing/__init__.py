"""Bytes that came from outside into records; what is bad is set aside one by one."""
