"""What every stage stands on: commands, files, plain values, percentiles."""
