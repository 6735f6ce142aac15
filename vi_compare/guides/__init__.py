"""What q can be: one guide a file; `build(model, ...)` makes it, its options are build's."""
