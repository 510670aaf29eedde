"""Language models: finding and loading weights, prompts that ask for sums, grading, pairs of prompts."""
