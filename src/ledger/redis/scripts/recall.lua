-- recall: empties a slice into the outbox, from where the projector gives it back exactly once.
--
-- KEYS  1 outbox  2 authority  3 slice
-- ARGV  1 epoch (>I8)  2 the counter of the slice, as the entry names it
-- Returns EPOCH epoch · NOTHING · RECALLED place
-- Writes the slice, which keeps the number of its last lease, then the outbox.
local epoch = struct.unpack('>I8', ARGV[1])
local auth = redis.call('GET', KEYS[2])
if not auth then return {'EPOCH', 0} end
local mine = struct.unpack('>I8', auth)
if mine ~= epoch then return {'EPOCH', mine} end
local slice = redis.call('GET', KEYS[3])
if not slice then return {'NOTHING'} end
local of, number, rest, spent, held = struct.unpack('>I8I8I8I8I8', slice)
if of ~= epoch then return {'NOTHING'} end
-- Without a limit it is nobody's: a lower limit that made it come back is met by the next lease.
local empty = struct.pack('>I8I8I8I8I8I8', epoch, number, 0, spent, held, 0)
  .. string.sub(slice, 49)
redis.call('SET', KEYS[3], empty, 'KEEPTTL')
if rest == 0 then return {'NOTHING'} end
local place = redis.call('XADD', KEYS[1], string.format('%.0f-*', epoch),
  'r', ARGV[2], 'f', struct.pack('>I8', rest))
return {'RECALLED', place}
