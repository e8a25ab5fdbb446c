"""What any training shares: batches as a function of the step, several processes."""
