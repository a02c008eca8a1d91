"""One module a migration, numbered; released ones are never changed."""
