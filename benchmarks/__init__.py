"""What this project claims, as commands: experiments with intervals, and ratios of times."""
