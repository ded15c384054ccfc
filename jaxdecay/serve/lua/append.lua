-- Events, each once: into the log, into the user's numbers and, where MODEL is given, into the user's state.
-- KEYS: last, ids, log. ARGV: what keys begin with; then of each event its id, its user, what is kept of it,
-- and what it adds to a state ('' for nothing). Returns which are new.
local new = {}
for place = 2, #ARGV, 4 do
  local id, user, record, adds = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  if redis.call('HEXISTS', KEYS[2], id) == 1 then
    new[#new + 1] = 0
  else
    local number = redis.call('INCR', KEYS[1])
    local numbers = ARGV[1] .. 'user:' .. user
    redis.call('HSET', KEYS[2], id, number)
    redis.call('HSET', KEYS[3], number, user .. record)
    if MODEL then
      add(ARGV[1] .. 'live:' .. MODEL.name .. user, redis.call('ZCARD', numbers), adds)
    end
    redis.call('ZADD', numbers, number, number)
    new[#new + 1] = 1
  end
end
return new
