-- Erases an event (its id given) or a user's events (''), and the user's states.
-- KEYS: last, ids, log, erased, forgotten, makers. ARGV: what keys begin with, the id, the user.
-- Returns the event, or how many there were; nil where there is none of that id.
local id, user = ARGV[2], ARGV[3]
local found
if id ~= '' then
  local number = redis.call('HGET', KEYS[2], id)
  found = number and redis.call('HGET', KEYS[3], number)
  if not found or #found == 16 then return nil end
  user = found:sub(1, 16)
  redis.call('HSET', KEYS[3], number, user)
  redis.call('ZREM', ARGV[1] .. 'user:' .. user, number)
else
  local numbers = redis.call('ZRANGE', ARGV[1] .. 'user:' .. user, 0, -1)
  for _, number in ipairs(numbers) do redis.call('HSET', KEYS[3], number, user) end
  redis.call('DEL', ARGV[1] .. 'user:' .. user)
  found = #numbers
end
redis.call('DEL', ARGV[1] .. 'state:' .. user)
for _, name in ipairs(redis.call('SMEMBERS', KEYS[6])) do
  redis.call('DEL', ARGV[1] .. 'live:' .. name .. user)
end
local number = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[3], number, user)
redis.call('HSET', KEYS[4], user, number)
if id == '' then redis.call('HSET', KEYS[5], user, number) end
return found
