"""What each verb does, as a function that returns a frozen report. Prints nothing; imports everything below."""
