"""What is measured: our files, foreign files, other toolkits."""
