"""The only SQL: tables, transactions, and what is asked of them."""
