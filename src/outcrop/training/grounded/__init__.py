"""Examples of the default model's one skill, made from plain documentation: quote a sentence and cite it, or refuse."""
