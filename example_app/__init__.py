"""Two Flask services that keep a stock: supply tells inventory what was delivered."""
