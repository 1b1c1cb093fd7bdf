-- For the ledger's scripts as they are put together from their parts (tests/luacheck.py); part of `make lint`.
std = "lua51"
read_globals = { "redis", "cjson", "struct", "KEYS", "ARGV" }
max_line_length = false
ignore = { "542" }  -- a branch that holds only a comment, which says why there is nothing to do
