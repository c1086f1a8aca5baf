-- How all processes stand. Changes nothing, and may run on a replica.
--
--   KEYS[1]  the account's ledger, a hash: LAYOUT.md
--   answers  nested arrays of integers and names: src/wire/status.rs; an empty one where there
--            is no ledger; an error where it is none that this version can read, as exchange.lua's
--
-- Units: amounts are whole tokens, requests or images; times are microseconds. Levels are brought
-- up to date as exchange.lua would, but for fractions of a token.
--
-- It must be atomic, since pools and processes are read one after another and belong together.

local LAYOUT = 4

local key = KEYS[1]
local call, parse = redis.call, cmsgpack.unpack
local floor, max, min = math.floor, math.max, math.min

local SECOND = 1000000
local LEASE = 2 * SECOND
local SECONDS = { 1, 60, 86400 }
local NO_LIMIT = -1
-- Positions in a share; exchange.lua says what is there.
local CAME, WEIGHT, MAX_SLOTS, SLOTS, HELD, IDLE, BESIDE, LINED, LENGTH = 1, 2, 6, 7, 9, 14, 19, 24, 34

if call('EXISTS', key) == 0 then
  return {}
end
local number = tonumber(string.match(call('HGET', key, 'layout') or '', '^(%d+) %d+$'))
if not number then
  return redis.error_reply('FOREIGN it has no number of a layout')
elseif number ~= LAYOUT then
  return redis.error_reply(string.format('LAYOUT %d %d', number, LAYOUT))
end
local head = parse(call('HGET', key, 'ledger'))

local time = call('TIME')
local now = max(time[1] * SECOND + time[2] + head.offset, head.last)

local function level_of(meter)
  local level = meter.level
  local ceiling = level.cap - level.held
  local elapsed = max(now - level.at, 0)
  local refilled = level.rate * elapsed / (SECONDS[meter.per] * SECOND)
  local whole = floor(level.whole + level.rest / level.token + refilled)
  return max(min(whole, ceiling), min(level.whole, ceiling))
end

local function share_of(id, share)
  local held, idle, wanted = {}, {}, {}
  for unit = 1, 5 do
    held[unit], idle[unit] = share[HELD + unit - 1], share[IDLE + unit - 1]
    wanted[unit] = share[BESIDE + unit - 1] + share[LINED + unit - 1]
  end
  return {
    id, max(now - share[CAME], 0), share[WEIGHT], held, idle, wanted, share[LENGTH],
    share[SLOTS],
  }
end

local pools = {}
for _, field in ipairs(head.pools) do
  local pool = parse(call('HGET', key, field))
  local meters, shares, slots = {}, {}, NO_LIMIT
  for at, meter in ipairs(pool.meters) do
    meters[at] = {
      meter.unit, meter.per, meter.limit, meter.level.rate, meter.level.cap, level_of(meter),
      meter.level.held,
    }
  end
  for id in pairs(pool.members) do
    local share = call('HGET', key, field .. ':' .. id)
    if share then
      share = { parse(share) }
      shares[#shares + 1] = share_of(id, share)
      local most = share[MAX_SLOTS]
      if most ~= NO_LIMIT and now - share[CAME] <= LEASE and (slots == NO_LIMIT or most < slots) then
        slots = most
      end
    end
  end
  pools[#pools + 1] = {
    string.match(field, '^pool:(.*)$') or false, meters, max(pool.held - now, 0), slots, shares,
  }
end

local processes = {}
for left, all in pairs({ [0] = head.processes, [1] = head.left }) do
  for id, came in pairs(all) do
    local reports = struct.unpack('>d', call('HGET', key, 'grant:' .. id))
    processes[#processes + 1] = { id, max(now - came, 0), reports, left }
  end
end

return {
  head.life, head.answered, now, max(head.learning - now, 0), processes, pools,
}
