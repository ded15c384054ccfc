-- Erases an event (its id given) or a user's events (''), and the user's states.
-- KEYS: last, ids, log, erased, forgotten, makers. ARGV: what keys begin with, the id, the user.
-- Returns the event, or how many there were; nil where there is none of that id.
local id, user = ARGV[2], ARGV[3]
local found
if id ~= '' then
  local number = redis.call('HGET', KEYS[2], id)
  found = number and there(number, '', id)
  if not found or #found == 32 then return nil end
  user = found:sub(1, 16)
  redis.call('HSET', KEYS[3], number, found:sub(1, 32))
  redis.call('ZREM', ARGV[1] .. 'user:' .. user, number)
else
  found = 0
  for _, number in ipairs(redis.call('ZRANGE', ARGV[1] .. 'user:' .. user, 0, -1)) do
    local row = there(number, user, '')
    if row then
      redis.call('HSET', KEYS[3], number, row:sub(1, 32))
      found = found + 1
    end
  end
  redis.call('DEL', ARGV[1] .. 'user:' .. user)
end
redis.call('DEL', ARGV[1] .. 'state:' .. user)
for _, name in ipairs(redis.call('SMEMBERS', KEYS[6])) do
  redis.call('DEL', ARGV[1] .. 'live:' .. name .. user)
end
last = last + 1
redis.call('HSET', KEYS[3], last, user)
redis.call('HSET', KEYS[4], user, last)
if id == '' then redis.call('HSET', KEYS[5], user, last) end
redis.call('SET', KEYS[1], last)
return found
