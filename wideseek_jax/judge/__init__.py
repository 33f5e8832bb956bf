"""Who says whether an answer is right.

`rules` decide what they can without a model. What they cannot goes to a
`types.Judge`, a callable from prompts to replies: `client.HttpJudge` for an
endpoint, `local.LocalJudge` for weights in this process, or any function of
that form. `questions` holds what it is asked and reads its replies, `summary`
lets it read pages for the agents.
"""
