"""What happened, told once it is committed."""
