-- set: tells how organizations, agents or mandates stand; older news changes nothing.
--
-- KEYS  1 authority  2… one key for each
-- ARGV  1 epoch (>I8)  2… for each: version (>I8) and the standing behind it
-- Returns EPOCH epoch · SET
local epoch = struct.unpack('>I8', ARGV[1])
local auth = redis.call('GET', KEYS[1])
if not auth then return {'EPOCH', 0} end
local mine = struct.unpack('>I8', auth)
if mine ~= epoch then return {'EPOCH', mine} end
for i = 2, #KEYS do
  local has = redis.call('GET', KEYS[i])
  local of, version = 0, 0
  if has then of, version = struct.unpack('>I8I8', has) end
  if of ~= epoch or version < struct.unpack('>I8', ARGV[i]) then
    redis.call('SET', KEYS[i], struct.pack('>I8', epoch) .. ARGV[i])
  end
end
return {'SET'}
