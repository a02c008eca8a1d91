"""Where records come from: files and folders, and the registry of every kind."""
