-- Keeps states, but for those that hold what has been erased since.
-- KEYS: erased. ARGV: what keys begin with, milliseconds to live (0: for good); then of each state its user,
-- its number and its bytes.
for place = 3, #ARGV, 3 do
  local user = ARGV[place]
  local erased = redis.call('HGET', KEYS[1], user)
  if not erased or tonumber(erased) <= tonumber(ARGV[place + 1]) then
    redis.call('SET', ARGV[1] .. 'state:' .. user, ARGV[place + 2])
    if ARGV[2] ~= '0' then redis.call('PEXPIRE', ARGV[1] .. 'state:' .. user, ARGV[2]) end
  end
end
