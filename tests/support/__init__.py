"""What several test modules need: strategies, laws, contracts, servers."""
