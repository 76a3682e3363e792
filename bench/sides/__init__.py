"""What is compared: each module starts, seeds and stops one side."""
