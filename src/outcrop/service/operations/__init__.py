"""What the service does: one folder per API family, the same file names in each.

``handlers.py`` acts, ``parse.py`` turns the family's requests into a ``Conversation`` and ``SamplingParams``,
``render.py`` turns what the engine says into the family's replies and streams.
"""
