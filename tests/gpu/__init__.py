"""What one run on a GPU shows (`make gpu-check`): equality with the CPU, states bit for bit, speed, waits and memory."""
