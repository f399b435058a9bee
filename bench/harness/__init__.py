"""What the benchmarks share: slow links, a receiving server, the peers, measuring and reporting."""
