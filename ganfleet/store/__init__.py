"""What a run leaves on disk: run directories, checkpoints, weights. Nothing is seen before it is whole."""
