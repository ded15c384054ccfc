"""The heads whose scores add up: similarity, revisit, popularity. Each fades by a kernel of its own."""
