"""The OpenAI-compatible surface: ``/openai/v1/chat/completions`` and ``/openai/v1/models``."""
