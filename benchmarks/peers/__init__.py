"""Job queues, each as a worker and a producer; see benchmarks/jobs.py."""
