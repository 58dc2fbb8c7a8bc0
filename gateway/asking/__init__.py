"""What people are asked, and what they say to it."""
