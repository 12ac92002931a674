"""Tests of the islands; a package, or the example of this name would be taken for it."""
