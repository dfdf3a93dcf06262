-- How many request keys an engine key keeps, or as many as a single call has mapped: whoever evicts it looks at all of them in one
-- script.
local MAPPED_MAX = 1024
