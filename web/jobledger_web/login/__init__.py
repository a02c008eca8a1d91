"""Signing in and out, passwords, language."""
