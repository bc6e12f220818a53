"""What a world model predicts, read as positions of objects: answers from rollouts and from imagined videos."""
