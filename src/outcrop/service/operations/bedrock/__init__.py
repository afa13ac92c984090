"""Amazon Bedrock's control plane: what can be invoked, under which names."""
