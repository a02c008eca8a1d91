"""What agent and collector say to each other, and when: messages and the pure machine."""
