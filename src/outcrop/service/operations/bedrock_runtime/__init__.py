"""Amazon Bedrock Runtime: ``Converse``, ``InvokeModel``, their streaming twins, and ``CountTokens``."""
