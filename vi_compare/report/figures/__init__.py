"""One figure idea a file; each returns inline SVG."""
