"""What does a model answer? Token ids in, token ids out."""
