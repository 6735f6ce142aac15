"""What is measured: one idea a file; `measure(evidence) -> {label: Estimate}`."""
