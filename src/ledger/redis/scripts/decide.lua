-- decide: the one atomic effect. It checks everything, then writes; nothing else is parsed than
-- packed integers, and no key is built here.
--
-- KEYS  1 outbox  2 windows  3 authority  4 record of the key  5 organization  6 agent  7 mandate
--       8… slices, in the order of the claim
-- ARGV  1 head: epoch, amount, now, good until (0: always), mode, looked up, hold (>I8I8I8I8BBB)
--       2 request hash (16 bytes)
--       3 standing of the organization  4 of the agent  5 of the mandate (empty: there is none)
--       6 of each slice: starts at, limit (>I8I8)
--       7 epoch and version of the mandate, then of each window: length, kind (0: a count, 1: a sum),
--         bound (>I8I8, >I8BI8); empty: there is none
--       8 levels to record with a rejection, of each slice: spent, held (>I8I8)
--       9 the entry
-- mode  0 decide  1 reject, the rules refuse  2 reject if a window does  3 reject, it is proved
-- looked up  0 not yet  1 need not be, unless there is an older record  2 done
-- Returns a list: EPOCH epoch · RECORDED · REUSED · LOOK_UP has-older-record · ROLLOVER · STALE ·
--       NEED_WINDOWS · WINDOW · LOWERED index · NEED_LEASE index number rest ·
--       APPROVED place facts · REJECTED place facts
-- Facts: now, approved (0 or 1), slices and windows, their levels before (>I8BBB, >I8I8, >I8I8I8).
local epoch, amount, now, good_until, mode, looked, hold =
  struct.unpack('>I8I8I8I8BBB', ARGV[1])
local got = redis.call('MGET', unpack(KEYS, 3))
if not got[1] then return {'EPOCH', 0} end
local mine, last = struct.unpack('>I8I8', got[1])
if mine ~= epoch then return {'EPOCH', mine} end

local older = 0
if got[2] then
  if struct.unpack('>I8', got[2]) == epoch then
    if string.sub(got[2], 9, 24) ~= ARGV[2] then return {'REUSED'} end
    return {'RECORDED'}
  end
  older = 1
end
if looked == 0 or (looked == 1 and older == 1) then return {'LOOK_UP', older} end

if now < last then now = last end
for i = 3, 5 do
  local want = ARGV[i]
  if want ~= '' then
    local have = got[i]
    if not have or struct.unpack('>I8', have) ~= epoch
      or string.sub(have, 17, 16 + #want) ~= want then
      return {'STALE'}
    end
  end
end
if good_until > 0 and now >= good_until then return {'ROLLOVER'} end

local facts = {}
local fits = true
local longest = 0
local count, sum = 0, 0
if ARGV[7] ~= '' then
  local marker = 'm' .. string.sub(ARGV[7], 1, 16)
  if not redis.call('ZSCORE', KEYS[2], marker) then return {'NEED_WINDOWS'} end
  local newest = redis.call('ZREVRANGE', KEYS[2], 0, 0)[1]
  if string.sub(newest, 1, 1) ~= 'm' then
    local before, total, paid = string.match(newest, '^(%d+):(%d+):(%d+)$')
    count, sum = tonumber(before) + 1, tonumber(total) + tonumber(paid)
  end
  if sum + amount > 9007199254740991 then
    redis.call('ZREM', KEYS[2], marker)
    return {'NEED_WINDOWS'}
  end
  local at = 17
  while at <= #ARGV[7] do
    local length, kind, bound
    length, kind, bound, at = struct.unpack('>I8BI8', ARGV[7], at)
    if length > longest then longest = length end
    local first = redis.call('ZRANGEBYSCORE', KEYS[2],
      string.format('(%.0f', math.max(now - length, 1)), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local within, paid, oldest = 0, 0, 0
    if first[1] then
      local before, total = string.match(first[1], '^(%d+):(%d+):')
      within, paid, oldest = count - tonumber(before), sum - tonumber(total), tonumber(first[2])
    end
    if kind == 0 then
      fits = fits and within < bound
    else
      fits = fits and paid + amount <= bound
    end
    facts[#facts + 1] = struct.pack('>I8I8I8', within, paid, oldest)
  end
end
if mode == 0 and not fits then return {'WINDOW'} end

local n = #KEYS - 7
local rejects = mode == 1 or mode == 3 or (mode == 2 and not fits)
local levels, slices = {}, {}
for i = 1, n do
  local starts_at, limit = struct.unpack('>I8I8', ARGV[6], i * 16 - 15)
  if starts_at > now then return {'ROLLOVER'} end
  if not rejects then
    local of, number, rest, spent, held, leased_for = 0, 0, 0, 0, 0, 0
    if got[i + 5] then
      of, number, rest, spent, held, leased_for = struct.unpack('>I8I8I8I8I8I8', got[i + 5])
    end
    if of ~= epoch then return {'NEED_LEASE', i - 1, 0, 0} end
    -- One more than the limit it was leased under; 0: what there was has come back.
    if leased_for - 1 > limit then return {'LOWERED', i - 1} end
    if rest < amount or leased_for == 0 then return {'NEED_LEASE', i - 1, number, rest} end
    levels[i] = struct.pack('>I8I8', spent, held)
    if hold == 1 then held = held + amount else spent = spent + amount end
    slices[i] = struct.pack('>I8I8I8I8I8I8', epoch, number, rest - amount, spent, held, leased_for)
  end
end

-- Nothing was written until here. An approval is charged before it is in the outbox, a rejection is
-- recorded before it is: what a torn script leaves is too little to spend, never two decisions.
local record = struct.pack('>I8', epoch) .. ARGV[2]
redis.call('SETRANGE', KEYS[3], 8, struct.pack('>I8', now))
if rejects then
  redis.call('SET', KEYS[4], record, 'PX', 90000000)
  local said = struct.pack('>I8BBB', now, 0, n, #facts) .. ARGV[8] .. table.concat(facts)
  local place = redis.call('XADD', KEYS[1], string.format('%.0f-*', epoch),
    'd', ARGV[9], 'f', said)
  return {'REJECTED', place, said}
end
for i = 1, n do redis.call('SET', KEYS[i + 7], slices[i], 'KEEPTTL') end
if ARGV[7] ~= '' then
  redis.call('ZADD', KEYS[2], now, string.format('%016.0f:%.0f:%.0f', count, sum, amount))
  redis.call('ZREMRANGEBYSCORE', KEYS[2], 1, math.max(now - longest, 1))
end
local said = struct.pack('>I8BBB', now, 1, n, #facts) .. table.concat(levels)
  .. table.concat(facts)
local place = redis.call('XADD', KEYS[1], string.format('%.0f-*', epoch), 'd', ARGV[9], 'f', said)
redis.call('SET', KEYS[4], record, 'PX', 90000000)
return {'APPROVED', place, said}
