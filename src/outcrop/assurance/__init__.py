"""Evidence that a deployment keeps its promises: attacks that must fail, and what they showed.

It stands beside the service as an operator's own tool and shares no code with the checks that it tries to pass.
"""
