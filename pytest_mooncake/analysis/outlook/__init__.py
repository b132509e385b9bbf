"""What is not judged yet: power before a run, a forecast from earlier ones, what would settle an open one."""
