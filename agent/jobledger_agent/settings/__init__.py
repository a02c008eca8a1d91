"""The settings file, the environment and the command line into frozen types."""
