"""How do weights come in and go out? Hugging Face folders and GGUF files."""
