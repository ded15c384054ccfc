-- Events, each once: into the log, the user's numbers and, where MODEL is given, the user's state.
-- KEYS: last, ids, log. ARGV: what keys begin with; then of each event its id, its user, what is kept of it,
-- and what it adds to a state ('' for nothing). Returns which are new.
local new = {}
for place = 2, #ARGV, 4 do
  local id, user, record, adds = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  local number = redis.call('HGET', KEYS[2], id)
  if number and there(number, '', id) then
    new[#new + 1] = 0
  else
    local numbers = ARGV[1] .. 'user:' .. user
    last = last + 1
    redis.call('HSET', KEYS[3], last, user .. id .. record)
    redis.call('HSET', KEYS[2], id, last)
    if MODEL then
      add(ARGV[1] .. 'live:' .. MODEL.name .. user, redis.call('ZCARD', numbers), user, id, adds)
    end
    redis.call('ZADD', numbers, last, last)
    new[#new + 1] = 1
  end
end
redis.call('SET', KEYS[1], last)
return new
