"""Migrations of the tables; expand first, contract a release later."""
