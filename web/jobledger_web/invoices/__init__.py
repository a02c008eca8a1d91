"""Invoices as they were issued."""
