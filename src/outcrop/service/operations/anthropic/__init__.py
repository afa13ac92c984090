"""The Anthropic Messages API: ``/anthropic/v1/messages`` and the body that ``InvokeModel`` carries."""
