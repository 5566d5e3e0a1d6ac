"""What each verb can be told, and how a command line gives it. Standard library alone: the command line reads it before
it knows which verb it is."""
