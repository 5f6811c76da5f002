//! Orders' commands on the stock.
