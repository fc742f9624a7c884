"""What the scripts of the paper's tables share."""
