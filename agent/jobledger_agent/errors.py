"""What the agent says when it cannot go on."""


class AgentError(Exception):
    """Something that a person must mend.

    Its text is one sentence for that person: what happened, where, and what to
    do next. Never a stack trace, never a secret.
    """
