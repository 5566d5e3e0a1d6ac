"""What the verbs of RTL do, as `flows/` for the others: simulators, projects of other people, mutation, synthesis."""
