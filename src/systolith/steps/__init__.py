"""What several flows do: find what options stand for, write many bundles, make plain values of reports."""
