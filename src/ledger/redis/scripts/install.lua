-- install: puts a granted lease into its slice; it may come twice or late.
--
-- KEYS  1 authority  2 slice
-- ARGV  1 epoch, number, amount, spent and leased together, held, limit, how long the slice lives
--         in milliseconds or 0 for ever, time that nothing is spent of it before, weakest level
--         that may be answered from it (>I8I8I8I8I8I8I8I8B)
-- Returns EPOCH epoch · INSTALLED · HAD · GAP
-- Writes the time of the shard, then the slice; it outlives its period by a day, for clocks that
-- are behind.
local epoch, number, amount, total, held, limit, ttl, floor, level =
  struct.unpack('>I8I8I8I8I8I8I8I8B', ARGV[1])
local auth = redis.call('GET', KEYS[1])
if not auth then return {'EPOCH', 0} end
local mine, latest = struct.unpack('>I8I8', auth)
if mine ~= epoch then return {'EPOCH', mine} end
local slice = redis.call('GET', KEYS[2])
local of, last, rest = 0, 0, 0
if slice then of, last, rest = struct.unpack('>I8I8I8', slice) end
-- INVARIANT: what an earlier epoch left is worth nothing.
if of ~= epoch then last, rest = 0, 0 end
if number <= last then return {'HAD'} end
if number > last + 1 then return {'GAP'} end
-- A call that was on its way while money came back would spend it before that.
if floor > latest then redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I8', floor)) end
rest = rest + amount
-- What is leased and not left here was spent; some of it may be recorded already.
local now = struct.pack('>I8I8I8I8I8I8B', epoch, number, rest, math.max(total - rest, 0), held,
  limit + 1, level)
if ttl > 0 then
  redis.call('SET', KEYS[2], now, 'PX', string.format('%.0f', ttl))
else
  redis.call('SET', KEYS[2], now)
end
return {'INSTALLED'}
