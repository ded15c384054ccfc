-- Puts a state that was made from the log in the place of one that lacks something, unless the user's entries
-- have changed since.
-- KEYS: the numbers of the user, the state. ARGV: how many entries it was made of, the latest of them, milliseconds
-- to live (0: for good), fields and values.
local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
if redis.call('ZCARD', KEYS[1]) ~= tonumber(ARGV[1]) or last ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
for place = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1]) end
if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return 1
