"""What the package is measured by; nothing here is part of it."""
