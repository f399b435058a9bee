"""Link detectors, one per file; each says whether a way out is up, and why it thinks so."""
