"""Class activation maps of the full graph, and how well they find things."""
