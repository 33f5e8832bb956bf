"""From facts to tasks: questions, two answers each, filters (SPEC C.1)."""
