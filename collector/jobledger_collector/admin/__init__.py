"""``jobledger``: the command line of the people who price, bill and look after the books."""
