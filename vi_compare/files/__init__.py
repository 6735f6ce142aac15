"""What is read from disk: a model's data, draws made elsewhere."""
