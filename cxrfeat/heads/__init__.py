"""What maps an embedding to one probability per label."""
