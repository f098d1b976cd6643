-- begin: makes an epoch the present one; it may be repeated, and may be late.
--
-- KEYS  1 outbox  2 authority
-- ARGV  1 epoch, time that nothing is decided before (>I8I8)  2 identity of the process
-- Returns BEGUN · LATER epoch
-- Writes the outbox (epoch-0, with the last place in front of it, unless it is there), then the
-- authority.
local epoch, floor = struct.unpack('>I8I8', ARGV[1])
local auth = redis.call('GET', KEYS[2])
if auth then
  local mine, last = struct.unpack('>I8I8', auth)
  if mine >= epoch then return {'LATER', mine} end
  if last > floor then floor = last end
end
local place, last = string.format('%.0f-0', epoch), '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  -- Entries that are recorded may be gone; the place of the last one is kept.
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then last = info[at + 1] end
  end
end
if last ~= place then redis.call('XADD', KEYS[1], place, 'b', last) end
redis.call('SET', KEYS[2], struct.pack('>I8I8', epoch, floor) .. ARGV[2])
return {'BEGUN'}
