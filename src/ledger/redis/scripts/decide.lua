-- decide: the one atomic effect. It checks everything, then writes; nothing else is parsed than
-- packed integers, and no key is built here.
--
-- KEYS  1 outbox  2 windows  3 authority  4 record of the key  5 organization  6 agent  7 mandate
--       8… slices, in the order of the claim
-- ARGV  1 head: epoch, amount, now, good until (0: always), when it was proved (mode 3), mode,
--         looked up, hold, level (>I8I8I8I8I8BBBB)
--       2 request hash (16 bytes)
--       3 standing of the organization  4 of the agent  5 of the mandate (empty: there is none)
--       6 of each slice: starts at, limit (>I8I8)
--       7 epoch and version of the mandate, then of each window: length, kind (0: a count, 1: a sum),
--         bound (>I8I8, >I8BI8); empty: there is none
--       8 levels to record with a rejection, of each slice: spent, held (>I8I8)
--       9 the entry
-- mode  0 decide  1 reject, the rules refuse  2 reject if a window does  3 reject, it is proved
-- looked up  0 not yet  1 need not be, unless there is an older record  2 done
-- level  0 fast  1 durable  2 strict: when an approval is answered
-- waits  1: an approval is answered when it is recorded
-- Returns a list: EPOCH epoch · RECORDED · REUSED · LOOK_UP has-older-record · ROLLOVER · STALE ·
--       NEED_WINDOWS · PROVE · WINDOW · LOWERED index · NEED_LEASE index number rest ·
--       APPROVED place facts rests · REJECTED place facts
-- Rests: of each slice the number of its last lease, and what is left (>I8I8).
-- An entry is what was decided (d) and its facts (f), and whether its answer waits for the row (w).
-- Facts: when, approved (0 or 1), slices and windows, their levels before (>I8BBB, >I8I8, >I8I8I8).
local epoch, amount, now, good_until, proved_at, mode, looked, hold, level, waits =
  struct.unpack('>I8I8I8I8I8BBBBB', ARGV[1])
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
-- Money may have come back since a proof: what it refuses was decided when it was proved.
local at = now
if mode == 3 then at = proved_at end
if now < at then now = at end
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
if good_until > 0 and at >= good_until then return {'ROLLOVER'} end

-- The windows: epoch and version, how many approvals there were, their sum, and how many of them
-- are not kept any more (>I8I8I8I8I8), then for each window the first approval that may be in it
-- (>I8); then each approval that is kept: when, and the sum before it (>I8I8). Approvals have the
-- numbers from 0 on, so a number is also how many there were before.
local facts, firsts = {}, {}
local fits = true
local count, sum, dropped, width = 0, 0, 0, 0

-- The first approval from a number on that is later than a time.
local function first_after(number, time)
  local from = width + (number - dropped) * 16
  local some = redis.call('GETRANGE', KEYS[2], from, from + 63)
  for i = 1, math.min(#some, (count - number) * 16) - 15, 16 do
    local made, before = struct.unpack('>I8I8', some, i)
    if made > time then return number, made, before end
    number = number + 1
  end
  local high = count
  while number < high do
    local middle = math.floor((number + high) / 2)
    from = width + (middle - dropped) * 16
    local made = struct.unpack('>I8', redis.call('GETRANGE', KEYS[2], from, from + 7))
    if made > time then high = middle else number = middle + 1 end
  end
  if number >= count then return count, 0, sum end
  from = width + (number - dropped) * 16
  return number, struct.unpack('>I8I8', redis.call('GETRANGE', KEYS[2], from, from + 15))
end

if ARGV[7] ~= '' then
  local n = (#ARGV[7] - 16) / 17
  width = 40 + n * 8
  local head = redis.call('GETRANGE', KEYS[2], 0, width - 1)
  if string.sub(head, 1, 16) ~= string.sub(ARGV[7], 1, 16) then return {'NEED_WINDOWS'} end
  count, sum, dropped = struct.unpack('>I8I8I8', head, 17)
  if sum + amount > 9007199254740991 then
    redis.call('DEL', KEYS[2])
    return {'NEED_WINDOWS'}
  end
  -- The windows know no earlier time than their last approval.
  if mode == 3 and count > dropped then
    local newest = width + (count - 1 - dropped) * 16
    if struct.unpack('>I8', redis.call('GETRANGE', KEYS[2], newest, newest + 7)) > at then
      return {'PROVE'}
    end
  end
  for i = 1, n do
    local length, kind, bound = struct.unpack('>I8BI8', ARGV[7], i * 17)
    local first, oldest, before = first_after(struct.unpack('>I8', head, 33 + i * 8),
      math.max(at - length, 1))
    local within, paid = count - first, sum - before
    firsts[i] = first
    facts[i] = struct.pack('>I8I8I8', within, paid, oldest)
    if kind == 0 then
      fits = fits and within < bound
    else
      fits = fits and paid + amount <= bound
    end
  end
end
if mode == 0 and not fits then return {'WINDOW'} end

local n = #KEYS - 7
local rejects = mode == 1 or mode == 3 or (mode == 2 and not fits)
local levels, slices, rests = {}, {}, {}
for i = 1, n do
  local starts_at, limit = struct.unpack('>I8I8', ARGV[6], i * 16 - 15)
  if starts_at > at then return {'ROLLOVER'} end
  if not rejects then
    local of, number, rest, spent, held, leased_for = 0, 0, 0, 0, 0, 0
    if got[i + 5] then
      of, number, rest, spent, held, leased_for = struct.unpack('>I8I8I8I8I8I8', got[i + 5])
    end
    if of ~= epoch then return {'NEED_LEASE', i - 1, 0, 0} end
    -- One more than the limit it was leased under; 0: what there was has come back.
    if leased_for - 1 > limit then return {'LOWERED', i - 1} end
    -- INVARIANT: nothing is answered at a weaker level than the lease in Postgres says.
    local weakest = string.byte(got[i + 5], 49) or 2
    if rest < amount or leased_for == 0 or level < weakest then
      return {'NEED_LEASE', i - 1, number, rest}
    end
    levels[i] = struct.pack('>I8I8', spent, held)
    if hold == 1 then held = held + amount else spent = spent + amount end
    rests[i] = struct.pack('>I8I8', number, rest - amount)
    slices[i] = string.sub(got[i + 5], 1, 8) .. rests[i]
      .. struct.pack('>I8I8I8B', spent, held, leased_for, weakest)
  end
end

-- Nothing was written until here. An approval is charged before it is in the outbox, a rejection is
-- recorded before it is: what a torn script leaves is too little to spend, never two decisions.
local record = struct.pack('>I8', epoch) .. ARGV[2]
redis.call('SETRANGE', KEYS[3], 8, struct.pack('>I8', now))
if rejects then
  redis.call('SET', KEYS[4], record, 'PX', 90000000)
  local said = struct.pack('>I8BBB', at, 0, n, #facts) .. ARGV[8] .. table.concat(facts)
  local place = redis.call('XADD', KEYS[1], string.format('%.0f-*', epoch),
    'd', ARGV[9], 'f', said, 'w', '')
  return {'REJECTED', place, said}
end
for i = 1, n do redis.call('SET', KEYS[i + 7], slices[i], 'KEEPTTL') end
if ARGV[7] ~= '' then
  redis.call('SETRANGE', KEYS[2], width + (count - dropped) * 16, struct.pack('>I8I8', now, sum))
  local kept_from = math.min(unpack(firsts))
  local head = ''
  for i = 1, #firsts do head = head .. struct.pack('>I8', firsts[i]) end
  -- Half of it is in no window any more: the rest moves to the front.
  if kept_from - dropped > 1024 and (kept_from - dropped) * 2 > count - dropped then
    local rest = redis.call('GETRANGE', KEYS[2], width + (kept_from - dropped) * 16, -1)
    redis.call('SET', KEYS[2], string.sub(ARGV[7], 1, 16)
      .. struct.pack('>I8I8I8', count + 1, sum + amount, kept_from) .. head .. rest, 'KEEPTTL')
  else
    redis.call('SETRANGE', KEYS[2], 16,
      struct.pack('>I8I8I8', count + 1, sum + amount, dropped) .. head)
  end
end
local said = struct.pack('>I8BBB', now, 1, n, #facts) .. table.concat(levels)
  .. table.concat(facts)
local place = string.format('%.0f-*', epoch)
if waits == 1 or hold == 1 then
  place = redis.call('XADD', KEYS[1], place, 'd', ARGV[9], 'f', said, 'w', '')
else
  place = redis.call('XADD', KEYS[1], place, 'd', ARGV[9], 'f', said)
end
redis.call('SET', KEYS[4], record, 'PX', 90000000)
return {'APPROVED', place, said, table.concat(rests)}
