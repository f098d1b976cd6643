-- windows: puts the approvals of a mandate that its sliding windows may still hold.
--
-- KEYS  1 authority  2 windows
-- ARGV  1 epoch (>I8)  2 epoch and version of the mandate (>I8I8)
--       3 approvals, oldest first: time, amount (>I8I8)  4 how long they are kept, in milliseconds
-- Returns EPOCH epoch · HAD · LOADED
-- Writes the windows, once for each version and epoch. Approvals under this version wait for it, so
-- none can be missing that the caller read nothing of.
local epoch = struct.unpack('>I8', ARGV[1])
local auth = redis.call('GET', KEYS[1])
if not auth then return {'EPOCH', 0} end
local mine = struct.unpack('>I8', auth)
if mine ~= epoch then return {'EPOCH', mine} end
local marker = 'm' .. ARGV[2]
if redis.call('ZSCORE', KEYS[2], marker) then return {'HAD'} end
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[2], 0, marker)
local count, sum = 0, 0
for at = 1, #ARGV[3], 16 do
  local decided_at, amount = struct.unpack('>I8I8', ARGV[3], at)
  redis.call('ZADD', KEYS[2], decided_at,
    string.format('%016.0f:%.0f:%.0f', count, sum, amount))
  count, sum = count + 1, sum + amount
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {'LOADED'}
