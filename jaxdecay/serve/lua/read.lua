-- A user's state, field by field; an empty list where it lacks one of the user's entries, or holds one that the
-- log does not; nil where there are none.
-- KEYS: last, ids, log, the user's numbers, the state. ARGV: the user.
local entries = redis.call('ZCARD', KEYS[4])
if entries == 0 then return nil end
local fields = redis.call('HGETALL', KEYS[5])
local seen
for place = 1, #fields, 2 do
  local name, value = fields[place], fields[place + 1]
  local own = tonumber(name)
  if name == 'head' then seen = struct.unpack('<d', value, 25) end
  if (name == 'head' or own) and not there(struct.unpack('<d', value), ARGV[1], value:sub(9, 24)) then
    return {}
  end
end
return seen == entries and fields or {}
