-- windows: puts the approvals of a mandate that its sliding windows may still hold.
--
-- KEYS  1 authority  2 windows
-- ARGV  1 epoch (>I8)  2 epoch and version of the mandate (>I8I8)
--       3 approvals, oldest first: time, amount (>I8I8)  4 how long they are kept, in milliseconds
--       5 how many windows there are
-- Returns EPOCH epoch · HAD · LOADED
-- Writes the windows, once for each version and epoch. Approvals under this version wait for it, so
-- none can be missing that the caller read nothing of.
local epoch = struct.unpack('>I8', ARGV[1])
local auth = redis.call('GET', KEYS[1])
if not auth then return {'EPOCH', 0} end
local mine, last = struct.unpack('>I8I8', auth)
if mine ~= epoch then return {'EPOCH', mine} end
if redis.call('GETRANGE', KEYS[2], 0, 15) == ARGV[2] then return {'HAD'} end
local approvals, sum = {}, 0
local newest = 0
for at = 1, #ARGV[3], 16 do
  local decided_at, amount = struct.unpack('>I8I8', ARGV[3], at)
  approvals[#approvals + 1] = struct.pack('>I8I8', decided_at, sum)
  sum, newest = sum + amount, decided_at
end
-- What comes is not earlier than what was, so that approvals are in the order of time.
if newest > last then redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I8', newest)) end
-- Each window begins to look at the first of them.
redis.call('SET', KEYS[2], ARGV[2] .. struct.pack('>I8I8I8', #approvals, sum, 0)
  .. string.rep(struct.pack('>I8', 0), tonumber(ARGV[5])) .. table.concat(approvals),
  'PX', ARGV[4])
return {'LOADED'}
