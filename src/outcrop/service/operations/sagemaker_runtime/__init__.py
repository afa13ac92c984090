"""Amazon SageMaker Runtime: the same models behind ``InvokeEndpoint``."""
