-- Puts a state that was made from the log in the place of one that lacks something, unless the user's entries
-- have changed since.
-- KEYS: last, ids, log, the user's numbers, the state. ARGV: the user, how many entries it was made of, the
-- latest of them, milliseconds to live (0: for good), fields and values.
local count, latest = 0, nil
for _, number in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  if there(number, ARGV[1], '') then
    count, latest = count + 1, number
  else
    redis.call('ZREM', KEYS[4], number)
  end
end
if count ~= tonumber(ARGV[2]) or latest ~= ARGV[3] then return end
redis.call('DEL', KEYS[5])
for place = 5, #ARGV, 2 do redis.call('HSET', KEYS[5], ARGV[place], ARGV[place + 1]) end
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[5], ARGV[4]) end
