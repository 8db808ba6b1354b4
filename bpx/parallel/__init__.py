"""Several processes that train one network, each on its part of every mini-batch."""
