"""Tests of the islands; a package, lest the example of this name be taken for it."""
