"""Building the agent's packages: .deb, .rpm and tarball, from one assembled tree."""
