-- How all processes stand. Changes nothing, and may run on a replica.
--
--   KEYS[1]  the account's ledger, a hash: LAYOUT.md
--   answers  nested arrays of integers and names: src/wire/status.rs; an empty one where there
--            is no ledger
--
-- Units: amounts are whole tokens, requests or images; times are microseconds. Levels are brought
-- up to date as exchange.lua would, but for fractions of a token.
--
-- It must be atomic, since pools and processes are read one after another and belong together.

local key = KEYS[1]
local call, parse = redis.call, cmsgpack.unpack
local floor, max, min = math.floor, math.max, math.min

local SECOND = 1000000
local LEASE = 2 * SECOND
local SECONDS = { 1, 60, 86400 }
local NO_LIMIT = -1
-- Positions in a share; exchange.lua has all of them.
local CAME, WEIGHT, SLOTS, HELD, IDLE, BESIDE, LINED, LENGTH = 1, 2, 7, 10, 11, 12, 13, 15
local MAX_SLOTS = 6

local head = call('HGET', key, 'ledger')
if not head then
  return {}
end
head = parse(head)

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
  local wanted = {}
  for unit = 1, 5 do
    wanted[unit] = share[BESIDE][unit] + share[LINED][unit]
  end
  return {
    id, max(now - share[CAME], 0), share[WEIGHT], share[HELD], share[IDLE], wanted, share[LENGTH],
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
      share = parse(share)
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
for id, it in pairs(head.processes) do
  processes[#processes + 1] = { id, max(now - it[1], 0), it[2], it[3] }
end

return {
  head.life, head.answered, now, max(head.learning - now, 0), processes, pools,
}
