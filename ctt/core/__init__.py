"""What every package uses: errors, units, typed settings, files, processes, memory. Nothing specific to the domain."""
