"""What several flows do: find what options stand for, write many bundles. Imports what flows import, but them."""
