"""All that a transport may import: the nouns of a chat, and documents, text and findings."""
