"""Architectures, tokenizers, chat templates, and weights in and out, straight from a Hugging Face directory."""
