"""Where calls come in: gRPC servicers and the command line of the roles."""
