-- One event more in a user's state, a hash: `head` (how many of the user's entries it has followed, how many
-- events it holds, when the latest was, and when and which item was taken last), the blocks of MODEL, rows of
-- doubles as of the latest event that fade each at its own rate, and for each item of the user's own its time
-- and the real and imaginary parts of its modes. `head` and items begin with the number and the id of the latest
-- entry in them.

local function doubles(text, count, start)
  local values = {struct.unpack('<' .. string.rep('d', count), text, start)}
  values[count + 1] = nil -- where reading ended
  return values
end

local function packed(values)
  return struct.pack('<' .. string.rep('d', #values), unpack(values))
end

-- The rows of a block with one event more, `gap` seconds after the latest or, where negative, before it.
local function written(block, before, gap, writes, vector)
  local rows, width = {}, block.width
  for one, rate in ipairs(block.rates) do
    local left, write = math.exp(-rate * math.abs(gap)), writes[one]
    local values = before and doubles(before, width, (one - 1) * width * 8 + 1)
    if gap < 0 then left, write = 1, write * left end
    local sum = {}
    for column = 1, width do
      sum[column] = write * vector[column] + (values and left * values[column] or 0)
    end
    rows[one] = packed(sum)
  end
  return table.concat(rows)
end

-- The modes of an item, likewise; they turn while they fade.
local function counted(before, at, writes)
  local time, values = at, nil
  if before then
    values = doubles(before, 1 + 2 * #writes, 25)
    time = math.max(values[1], at)
  end
  local sum = {time}
  for one, mode in ipairs(MODEL.own) do
    local left, angle = math.exp(mode[1] * (time - at)), mode[2] * (time - at)
    local real, turned = writes[one] * left * math.cos(angle), writes[one] * left * math.sin(angle)
    if values then
      local gap = time - values[1]
      local x, y = values[2 * one], values[2 * one + 1]
      left, angle = math.exp(mode[1] * gap), mode[2] * gap
      real = real + left * (x * math.cos(angle) - y * math.sin(angle))
      turned = turned + left * (x * math.sin(angle) + y * math.cos(angle))
    end
    sum[2 * one], sum[2 * one + 1] = real, turned
  end
  return packed(sum)
end

-- `adds`: when, the item (-1: it counts for none), then of each block its writes and what they write, and what
-- it adds to the modes of the item; '' for an entry that the model does not know. A state that lacks one of the
-- `had` entries before, or holds what the log does not, is left as it is: whoever reads it makes it anew.
local function add(state, had, user, id, adds)
  local entry = struct.pack('<d', last) .. id
  local function true_to_log(value)
    return not value or there(struct.unpack('<d', value), user, value:sub(9, 24))
  end
  local head = redis.call('HGET', state, 'head')
  local seen, events, time, when, item_before = 0, 0, 0, 0, -1
  if head then seen, events, time, when, item_before = struct.unpack('<ddddd', head, 25) end
  if seen ~= had or not true_to_log(head) then return end
  if adds ~= '' then
    local at, item = struct.unpack('<dd', adds)
    if item >= 0 then
      local own = string.format('%d', item)
      local before = head and redis.call('HGET', state, own)
      if not true_to_log(before) then return end
      local writes = doubles(adds, #MODEL.own, MODEL.place)
      redis.call('HSET', state, own, entry .. counted(before, at, writes))
      if item_before < 0 or at >= when then when, item_before = at, item end
    end
    for name, block in pairs(MODEL.blocks) do
      local rows = #block.rates
      local writes = doubles(adds, rows, block.place)
      local vector = doubles(adds, block.width, block.place + rows * 8)
      local before = head and redis.call('HGET', state, name)
      redis.call('HSET', state, name, written(block, before, at - time, writes, vector))
    end
    events, time = events + 1, math.max(time, at)
  end
  redis.call('HSET', state, 'head', entry .. struct.pack('<ddddd', seen + 1, events, time, when, item_before))
  if MODEL.fades > 0 then redis.call('PEXPIRE', state, MODEL.fades) end
end
