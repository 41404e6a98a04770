"""Local stores, carried into a server with the rights of who wrote them."""
