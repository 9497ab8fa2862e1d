"""`lossd doctor`: checks the set-up, the network and the server, in this order."""
