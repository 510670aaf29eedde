"""What is asked, in exact integers: addition, pairs of numbers, samplers, sub-tasks. No model."""
