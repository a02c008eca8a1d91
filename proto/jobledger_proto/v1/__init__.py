"""Version 1 of the contract; ``usage.proto`` is the source of the rest."""
