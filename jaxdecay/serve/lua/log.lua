-- The log: a hash by number of the user (16 bytes), the event's id (16 bytes) and what is kept of it; without
-- the latter two for a mark of erasure, without the last for an event that is erased. KEYS: last, ids, log.
--
-- The log alone tells what has happened; ids and users' numbers are signposts, which are looked up in it. A
-- server that is killed while it writes may come back with part of a script that it never finished (Redis cuts
-- its file at the end of a command, even within a transaction): no write adds to what is there, so the next
-- script writes over what lies beyond `last`, and whatever points there is found to be wrong.
local last = tonumber(redis.call('GET', KEYS[1]) or 0)

-- What the log has at a number that something points at; nil if it is not of this user or event ('' for any).
local function there(number, user, id)
  local row = tonumber(number) <= last and redis.call('HGET', KEYS[3], number)
  if row and (user == '' or row:sub(1, 16) == user) and (id == '' or row:sub(17, 32) == id) then return row end
end
