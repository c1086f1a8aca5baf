-- One exchange: a process's report is taken in, and answered with a grant.
--
--   KEYS[1]  the account's ledger, a hash: LAYOUT.md
--   ARGV[1]  the report, as JSON: src/wire/report.rs
--   ARGV[2]  the channel on which holds are news
--   answers  nested arrays of integers: src/wire/grant.rs; or an error, LAYOUT or FOREIGN, where what
--            is kept under the key is not to be touched: src/why.rs
--
-- Units: amounts are whole tokens, requests or images; times are microseconds; tags and
-- prices are seconds of the scarcest thing. Arrays of amounts are in the order requests,
-- tokens, input, output, images.
--
-- It must be atomic, since what it grants depends on what all have, and is charged as it is
-- granted: between reading the level and lowering it nobody else may draw. Redis runs a script
-- as a whole, so the ledger needs no lock, and a process that dies holding one is no case.
--
-- The rules are numbered as in docs/decisions/0066-leases.md; crates/tollhouse/src/shared/bank
-- has the same ones in Rust, and a test compares the two to the token, so the order of every
-- sum and comparison of tags is the same here as there.
--
-- Numbers are doubles, exact for integers below 2^53. Amounts are below 2^50. What only ever
-- grows counts in a circle of 2^52, of which differences are taken. A level is whole tokens and
-- a rest in fractions: as many to a token as the meter's period has microseconds, of which a
-- rate of one in the period refills exactly one a microsecond.
--
-- A run costs time in proportion to the processes that are there, for each pool of the report.

-- What all that is kept under the key is by: LAYOUT.md.
local LAYOUT = 4

local key, channel = KEYS[1], ARGV[2]
local call, pack, parse = redis.call, cmsgpack.pack, cmsgpack.unpack
local floor, fmod, min, max, huge = math.floor, math.fmod, math.min, math.max, math.huge

local SECOND = 1000000
-- How long what is drawn may be spent.
local LEASE = 2 * SECOND
-- How long after its launch a request has surely been counted by the provider.
local TRANSIT = 2 * SECOND
-- By then every process has noticed that the ledger was lost.
local LEARNING = 4 * SECOND
-- A process that is silent for so long comes back as another one.
local FORGOTTEN = 3600 * SECOND
-- No launch is booked further ahead, but the next one.
local AHEAD = SECOND
-- Nothing raises a level for so long after a hold.
local STEADY = 60 * SECOND
-- By then every process has told what was counted before a refusal.
local STALE = 3 * SECOND
-- What may be in transit and not counted yet, at most, in time of the refill.
local UNCOUNTED = 2500000
-- How often its own cost may pass the head.
local PASSES = 4
-- Of that so many seconds are kept for its own ways to the ledger, and for what the provider's word
-- takes from the level meanwhile.
local SPARE = 4
-- For one that takes so many seconds to refill, idle leases are called back.
local LARGE = 1
-- A window is kept in so many parts of its period.
local PARTS = 64
-- A hold that grows by more than this is news; one that is only told once more is not.
local NEWS = 250000
-- The ledger is kept so long, in seconds, after anybody came last: longer than a day's meter.
local KEPT = 2 * 86400
-- The circle of what only ever grows.
local CIRCLE = 2 ^ 52
local EXACT = 2 ^ 53

local UNITS = 5
local REQUESTS = 1
-- By the number of a period: a second, a minute, a day.
local SECONDS = { 1, 60, 86400 }
local MINUTE, DAY = 2, 3

-- ===== numbers =====

-- The sum of two that grow, and how far one is ahead of another; behind is below zero.
local function circle(sum)
  return sum % CIRCLE
end

local function ahead(one, other)
  local difference = (one - other) % CIRCLE
  if difference >= CIRCLE / 2 then
    return difference - CIRCLE
  end
  return difference
end

-- a * b / c, whole and rest, exact as long as the whole is below 2^53; c is at most 86.4 * 10^9,
-- below 2^37. Long division, fifteen bits at a time, where the product has no place.
local function divide(a, b, c)
  local rest = fmod(a, c)
  local whole = (a - rest) / c * b
  if rest * b < EXACT then
    local product = rest * b
    rest = fmod(product, c)
    return whole + (product - rest) / c, rest
  end
  local quotient, left = 0, 0
  for power = 45, 0, -15 do
    local digit = floor(b / 2 ^ power) % 32768
    local value = left * 32768 + rest * digit
    left = fmod(value, c)
    quotient = quotient * 32768 + (value - left) / c
  end
  return whole + quotient, left
end

-- ===== amounts =====
-- Written out, since most of a run is spent here.

local function nothing()
  return { 0, 0, 0, 0, 0 }
end

local function plus(a, b)
  return { a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5] }
end

local function minus(a, b)
  return {
    a[1] > b[1] and a[1] - b[1] or 0, a[2] > b[2] and a[2] - b[2] or 0,
    a[3] > b[3] and a[3] - b[3] or 0, a[4] > b[4] and a[4] - b[4] or 0,
    a[5] > b[5] and a[5] - b[5] or 0,
  }
end

local function least(a, b)
  return { min(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]), min(a[4], b[4]), min(a[5], b[5]) }
end

local function fits(a, b)
  return a[1] <= b[1] and a[2] <= b[2] and a[3] <= b[3] and a[4] <= b[4] and a[5] <= b[5]
end

local function is_nothing(a)
  return a[1] <= 0 and a[2] <= 0 and a[3] <= 0 and a[4] <= 0 and a[5] <= 0
end

-- ===== a bucket =====
-- rules/bucket.rs: it refills `rate` in the period up to `cap - held`.
--   whole, rest   the level
--   at            when the level was true
--   token         fractions of a token
--   risen, more   all that it ever rose, but for what was never sent, whole and rest

local function new_bucket(rate, period, capacity, now)
  return {
    whole = capacity, rest = 0, at = now, token = period,
    rate = max(rate, 1), cap = capacity, held = 0, risen = 0, more = 0,
  }
end

-- Adds whole tokens and a rest, which may not exceed the ceiling.
local function rise(bucket, whole, rest)
  if whole < 0 then
    return
  end
  local room, more = bucket.cap - bucket.held - bucket.whole, 0
  if bucket.rest > 0 then
    room, more = room - 1, bucket.token - bucket.rest
  end
  if whole > room or (whole == room and rest > more) then
    whole, rest = room, more
  end
  if whole < 0 then
    return
  end
  bucket.whole, bucket.rest = bucket.whole + whole, bucket.rest + rest
  if bucket.rest >= bucket.token then
    bucket.whole, bucket.rest = bucket.whole + 1, bucket.rest - bucket.token
  end
  bucket.risen, bucket.more = bucket.risen + whole, bucket.more + rest
  if bucket.more >= bucket.token then
    bucket.risen, bucket.more = bucket.risen + 1, bucket.more - bucket.token
  end
  bucket.risen = circle(bucket.risen)
end

local function refill(bucket, now)
  local elapsed = now - bucket.at
  if elapsed <= 0 then
    return
  end
  bucket.at = now
  if bucket.whole < bucket.cap - bucket.held then
    rise(bucket, divide(bucket.rate, elapsed, bucket.token))
  end
end

-- What is above the ceiling is lost.
local function cap(bucket)
  local ceiling = bucket.cap - bucket.held
  if bucket.whole >= ceiling then
    bucket.whole, bucket.rest = ceiling, 0
  end
end

-- Lowers the level to at most this.
local function lower(bucket, whole, rest)
  if bucket.whole > whole or (bucket.whole == whole and bucket.rest > rest) then
    bucket.whole, bucket.rest = whole, rest
  end
end

local function credit(bucket, amount, now)
  refill(bucket, now)
  rise(bucket, amount, 0)
end

local function raise_to(bucket, whole, now)
  refill(bucket, now)
  if bucket.rest > 0 then
    rise(bucket, whole - bucket.whole - 1, bucket.token - bucket.rest)
  else
    rise(bucket, whole - bucket.whole, 0)
  end
end

-- How much room it has, in whole tokens and a coin of its own: what it rose is in it.
local function room_of(bucket)
  local whole = bucket.cap - bucket.held - bucket.whole + bucket.risen
  if bucket.more < bucket.rest then
    whole = whole - 1
  end
  return ahead(whole, 0)
end

-- Gives back what the provider gave back at an unknown instant since there was `room`.
local function credit_late(bucket, amount, room, now)
  refill(bucket, now)
  local had, more = ahead(room, bucket.risen), 0
  if bucket.more > 0 then
    had, more = had - 1, bucket.token - bucket.more
  end
  if amount <= had then
    rise(bucket, amount, 0)
  else
    rise(bucket, had, more)
  end
end

local function resize(bucket, rate, capacity, now)
  refill(bucket, now)
  bucket.rate = max(rate, 1)
  bucket.risen = circle(bucket.risen + max(bucket.cap - capacity, 0))
  bucket.cap = capacity
  cap(bucket)
end

-- ===== a meter =====
-- bank/meter.rs: a limit, its bucket, its window, and the pace of requests by the minute.
--   unit, per, limit, windowed   as agreed; rate and capacity are the bucket's
--   level    the bucket
--   pace     half a second's worth of requests and one more: a limit by the minute may be enforced by
--            the second
--   parts    what landed lately, for a window: part, amount, part, amount, oldest first
--   sum      of those
--   drawn    all that was ever drawn and not given back

-- The one more is for whoever's turn it is and who has not come yet: beside it, what refills meanwhile
-- has a place.
local function pace_of(rate)
  return floor((max(rate, 1) + 119) / 120) + 1
end

local function period_of(meter)
  return SECONDS[meter.per] * SECOND
end

-- What landed counts until its part's end is a whole period ago.
local function add_landed(meter, amount, now)
  if not meter.parts or amount == 0 then
    return
  end
  meter.sum = meter.sum + amount
  local part = floor(now / (period_of(meter) / PARTS))
  local parts = meter.parts
  if parts[#parts - 1] == part then
    parts[#parts] = parts[#parts] + amount
  else
    parts[#parts + 1], parts[#parts + 2] = part, amount
  end
end

local function new_meter(terms, from)
  local period = SECONDS[terms.per] * SECOND
  local meter = {
    unit = terms.unit, per = terms.per, limit = terms.limit, windowed = terms.windowed,
    level = new_bucket(terms.rate, period, terms.capacity, from),
    drawn = 0,
  }
  if terms.windowed == 1 then
    meter.parts, meter.sum = {}, 0
  end
  if terms.unit == REQUESTS and terms.per == MINUTE then
    meter.pace = new_bucket(terms.rate, period, pace_of(terms.rate), from)
  end
  return meter
end

-- Takes over other numbers; a raised limit adds rate and no level: rule 6.
local function take_over(meter, terms, now)
  local level = meter.level
  if meter.limit == terms.limit and meter.windowed == terms.windowed
    and level.cap == terms.capacity and level.rate == max(terms.rate, 1) then
    return
  end
  resize(level, terms.rate, terms.capacity, now)
  if meter.pace then
    resize(meter.pace, terms.rate, pace_of(terms.rate), now)
  end
  if terms.windowed == 0 then
    meter.parts, meter.sum = nil, nil
  elseif not meter.parts then
    -- Whatever is missing of the level, it may have been spent just now.
    meter.parts, meter.sum = {}, 0
    add_landed(meter, max(terms.capacity - level.whole - level.held, 0), now)
  end
  meter.limit, meter.windowed = terms.limit, terms.windowed
end

-- One waits for so many requests at once: where the pace never has as many, they are collected.
local function widen(meter, requests, now)
  local pace, rate = meter.pace, meter.level.rate
  if pace then
    resize(pace, rate, max(pace_of(rate), min(requests, meter.level.cap)), now)
  end
end

-- What may be drawn now, while `resting` requests are drawn and nobody's.
local function left_of(meter, resting, now)
  refill(meter.level, now)
  local left = meter.level.whole
  if meter.parts then
    local parts, live = meter.parts, 1
    local part = period_of(meter) / PARTS
    while parts[live] and (parts[live] + 1) * part + period_of(meter) <= now do
      meter.sum = meter.sum - parts[live + 1]
      live = live + 2
    end
    if live > 1 then
      local rest = {}
      for at = live, #parts do
        rest[#rest + 1] = parts[at]
      end
      meter.parts = rest
    end
    left = min(left, meter.limit - (meter.sum + meter.level.held))
  end
  if meter.pace then
    refill(meter.pace, now)
    left = min(left, meter.pace.whole - resting)
  end
  return max(left, 0)
end

local function draw(meter, amount, now)
  meter.drawn = circle(meter.drawn + amount)
  refill(meter.level, now)
  meter.level.whole = meter.level.whole - amount
  meter.level.held = meter.level.held + amount
  if meter.pace then
    refill(meter.pace, now)
    meter.pace.whole = meter.pace.whole - amount
  end
end

-- What was drawn was never sent.
local function give_back(meter, amount, now)
  local level = meter.level
  meter.drawn = circle(meter.drawn - amount)
  refill(level, now)
  level.held = max(level.held - amount, 0)
  level.whole = level.whole + amount
  cap(level)
  if meter.pace then
    credit(meter.pace, amount, now)
  end
end

-- The provider has counted it.
local function land(meter, amount, now)
  refill(meter.level, now)
  meter.level.held = max(meter.level.held - amount, 0)
  add_landed(meter, amount, now)
end

-- A process holds more than was known.
local function adopt(meter, amount, now)
  refill(meter.level, now)
  meter.level.held = meter.level.held + amount
  cap(meter.level)
end

local function owe(meter, amount, now)
  meter.drawn = circle(meter.drawn + amount)
  refill(meter.level, now)
  meter.level.whole = max(meter.level.whole - amount, -CIRCLE)
  add_landed(meter, amount, now)
end

-- The provider says that so much is left: rule 7.
local function correct(meter, remaining, mark, idle, may_rise, now)
  local level = meter.level
  refill(level, now)
  local on_its_way = max(level.held - idle, 0)
  local uncounted = min(on_its_way, (divide(level.rate, UNCOUNTED, level.token)))
  local most = remaining - uncounted - idle
  if most < level.whole then
    lower(level, most, 0)
  elseif may_rise and mark then
    local kept = max(meter.limit - level.rate, 0)
    raise_to(level, max(remaining - kept - (meter.drawn - mark) % CIRCLE, 0), now)
  end
end

-- This charge fits after the delay, not sooner.
local function wait_for(meter, amount, delay, now)
  local level = meter.level
  refill(level, now)
  local whole, rest = divide(level.rate, delay, level.token)
  whole = amount - min(whole, CIRCLE)
  if rest > 0 then
    whole, rest = whole - 1, level.token - rest
  end
  lower(level, whole, rest)
end

-- What a level begins with at least where nobody knows what was spent: a day's refill is not waited
-- for.
local function after_loss(meter)
  return meter.per == DAY and floor(meter.level.cap / 10) or 0
end

-- Begins at nothing and is told since when it can have refilled, if anything was lost; else it is
-- full: rule 11.
local function open(meter, lost, began, now)
  local level = meter.level
  if not lost then
    raise_to(level, level.cap, now)
    return
  end
  local refilled = divide(level.rate, now - began, level.token)
  raise_to(level, max(refilled, after_loss(meter)), now)
end

-- The seconds of some microseconds, rounded as Rust's Duration does.
local function seconds_of(micros)
  return floor(micros / SECOND) + micros % SECOND * 1000 / 1000000000
end

-- ===== prices =====
-- bank/prices.rs: in seconds of the scarcest thing.

-- Of what one takes at once; and of which unit it is that it costs so much, the first of those that
-- cost the same.
local function price_of(meters, interval, amounts)
  local most, scarcest = amounts[REQUESTS] * interval, REQUESTS
  for _, meter in ipairs(meters) do
    local cost = amounts[meter.unit] / max(meter.limit, 1) * SECONDS[meter.per]
    if cost > most then
      most, scarcest = cost, meter.unit
    end
  end
  return most, scarcest
end

-- Of each unit by itself, together.
local function sum_of(meters, interval, amounts)
  local sum = 0
  for unit = 1, UNITS do
    if amounts[unit] > 0 then
      local alone = nothing()
      alone[unit] = amounts[unit]
      sum = sum + price_of(meters, interval, alone)
    end
  end
  return sum
end

-- What of these costs most: so much of one unit.
local function dominant_of(meters, interval, amounts)
  local _, unit = price_of(meters, interval, amounts)
  local dominant = nothing()
  dominant[unit] = amounts[unit]
  return dominant
end

-- ===== a share =====
-- bank/share.rs: what one process has of a pool, and what it wants. Many are read in each run, so
-- they are flat: positions, not names, and no table inside.
local CAME, WEIGHT, TAG, PASSED, INTERVAL, MAX_SLOTS, SLOTS, SLOTS_WANTED = 1, 2, 3, 4, 5, 6, 7, 8
-- From here on five amounts each: what it holds and what of that is idle; what it wants beside its
-- line, the line's sum, and its first.
local HELD, IDLE, BESIDE, LINED, FIRST = 9, 14, 19, 24, 29
-- How long the line is; whether what the last grant gave has been taken for landed; how many idle
-- requests nobody waits for (those granted to a line are sent when they come, and were counted by the
-- pace as they were drawn); its limits, packed, since most processes have the same; and the price of
-- the largest head that PASSED is counted for.
local LENGTH, VOID, RESTING, TERMS, PRICE = 34, 35, 36, 37, 38
local NO_LIMIT = -1

local function parse_share(packed)
  return { parse(packed) }
end

local function pack_share(share)
  return pack(unpack(share, 1, PRICE))
end

-- Five amounts, from there on.
local function amounts_at(share, at)
  return { share[at], share[at + 1], share[at + 2], share[at + 3], share[at + 4] }
end

local function put(share, at, amounts)
  share[at], share[at + 1], share[at + 2], share[at + 3], share[at + 4] =
    amounts[1], amounts[2], amounts[3], amounts[4], amounts[5]
end

local function wants_nothing(share)
  return share[LENGTH] == 0 and share[BESIDE] <= 0 and share[BESIDE + 1] <= 0
    and share[BESIDE + 2] <= 0 and share[BESIDE + 3] <= 0 and share[BESIDE + 4] <= 0
end

local function want(share, line, beside)
  local sum = nothing()
  for _, step in ipairs(line) do
    sum = plus(sum, step)
  end
  put(share, BESIDE, beside)
  put(share, LINED, sum)
  put(share, FIRST, line[1] or nothing())
  share[LENGTH] = #line
end

local function want_nothing(share)
  want(share, {}, nothing())
end

local function new_share()
  local share = { 0, 1, 0, 0, 0, NO_LIMIT, 0, 0 }
  put(share, HELD, nothing())
  put(share, IDLE, nothing())
  want_nothing(share)
  share[VOID], share[RESTING], share[TERMS], share[PRICE] = 0, 0, '', 0
  return share
end

-- A line is kept as a row of numbers, too: five for each step.
local function flat(line)
  local row, size = {}, 0
  for _, step in ipairs(line) do
    row[size + 1], row[size + 2], row[size + 3], row[size + 4], row[size + 5] =
      step[1], step[2], step[3], step[4], step[5]
    size = size + UNITS
  end
  return row
end

-- What a process is asked for alone: the number of its last grant, what that gave, its sums, and what
-- it was charged in advance. Of one that was not known here: its debts are taken over, and cost it
-- something; what it gave back was never charged here.
local NUMBER, DRAWN, DRAWN_SLOTS, DRAWN_LAUNCHES, RETURNED, OWED, UNUSED, LAUNCHES_RETURNED, DOMINANT =
  1, 2, 3, 4, 5, 6, 7, 8, 9
-- bank/advance.rs: what no request had taken by its last report, and what it was granted then; what was
-- charged for that, of each step what was scarcest; and what its requests were charged for, in seconds.
local ADVANCED, CHARGED, PAID = 10, 11, 12

local function new_own(of)
  return {
    0, nothing(), 0, 0, of.returned, nothing(), of.unused, of.launches_returned,
    minus(of.dominant, of.owed), nothing(), nothing(), 0,
  }
end

-- By how much a tag moves, but for the weight, as it becomes known what its requests cost: bank/advance.rs.
local function settle_advance(own, meters, interval, told)
  local function sum(amounts)
    return sum_of(meters, interval, amounts)
  end
  local there = plus(told.idle, told.returned)
  local taken, back = minus(own[ADVANCED], there), minus(there, own[ADVANCED])
  local least = price_of(meters, interval, taken) - sum(back) - sum(told.unused)
  local most = sum(taken) + sum(told.owed)
  local cost = sum(told.more) - sum(told.less)
  local believed = max(max(min(cost, most), least), -own[PAID])
  own[PAID] = own[PAID] + believed
  local idle = dominant_of(meters, interval, told.idle)
  local more, less = plus(told.more, idle), plus(told.less, own[CHARGED])
  local moved = sum(minus(more, less)) - sum(minus(less, more))
  own[ADVANCED], own[CHARGED] = told.idle, idle
  return moved + (believed - cost)
end

-- ===== what passed a head =====
-- bank/passed.rs: it is counted for the head, however often another one stands before that in its
-- process's line, is granted and comes again. A line has no names in it, so the head is known by its
-- price.

local function forgive(share)
  share[PASSED], share[PRICE] = 0, 0
end

-- How much more may pass a head of this price.
local function allowance_of(share, price)
  return PASSES * price - min(price, SPARE) - share[PASSED]
end

-- So much is granted past a head of this price.
local function count_passing(share, cost, price)
  share[PRICE] = max(share[PRICE], price)
  share[PASSED] = min(share[PASSED] + cost, PASSES * share[PRICE])
end

-- Of its line steps are granted of so much in all, of so much at most, and others of at most `rest`
-- wait on. The count ends with the head. Where that waits no more and was not granted either, the others
-- pay it off, as if each had been passed as often as it may.
local function serve(share, all, largest, rest)
  if largest >= share[PRICE] then
    forgive(share)
  elseif rest < share[PRICE] then
    share[PASSED] = max(share[PASSED] - PASSES * all, 0)
  end
end

-- ===== heaps =====
-- Of hands: number, name; the least number is first, then the least name.

local function before(one, other)
  if one[1] ~= other[1] then
    return one[1] < other[1]
  end
  return one[2] < other[2]
end

local function sink(heap, at)
  local size, hand = #heap, heap[at]
  while true do
    local child = at * 2
    if child > size then
      break
    end
    if child < size and before(heap[child + 1], heap[child]) then
      child = child + 1
    end
    if not before(heap[child], hand) then
      break
    end
    heap[at], at = heap[child], child
  end
  heap[at] = hand
end

local function heapify(heap)
  for at = floor(#heap / 2), 1, -1 do
    sink(heap, at)
  end
end

local function pop(heap)
  local size = #heap
  heap[1] = heap[size]
  heap[size] = nil
  if size > 1 then
    sink(heap, 1)
  end
end

-- ===== who gets what =====

-- As much of all units alike as there is.
local function portion(wanted, left)
  if fits(wanted, left) then
    return wanted
  end
  local share, part = 1, {}
  for unit = 1, UNITS do
    if wanted[unit] > 0 then
      share = min(share, left[unit] / wanted[unit])
    end
  end
  for unit = 1, UNITS do
    part[unit] = min(floor(wanted[unit] * share), left[unit])
  end
  return part
end

-- Another process's share, which is read in full only where it is asked for.
local function share_of(others, id)
  local share = others.shares[id] or parse_share(others.packed[id])
  others.shares[id] = share
  return share
end

-- Those whose wants matter: all, or, where there is enough for everything that anybody wants, only
-- who asks, because then whose turn it is does not matter.
local function hands_of(process, own, others, left)
  local hands, wants = {}, plus(others.wants, plus(amounts_at(own, LINED), amounts_at(own, BESIDE)))
  if not wants_nothing(own) then
    hands[1] = { own[TAG], process, taken = 0, share = own }
  end
  if not fits(wants, left) then
    for at, id in ipairs(others.names) do
      hands[#hands + 1] = { others.tags[at], id, taken = 0 }
    end
  end
  return hands
end

-- A hand's next step, and whether that is one of its line.
local function step_of(hand, left, line_of)
  local share = hand.share
  if hand.taken >= share[LENGTH] then
    return portion(amounts_at(share, BESIDE), left), false
  end
  if hand.taken == 0 then
    return amounts_at(share, FIRST), true
  end
  hand.line = hand.line or line_of(hand[2])
  return amounts_at(hand.line, hand.taken * UNITS + 1), true
end

-- Whether all heads may be passed by a step that costs so much.
local function may_be_passed(heads, cost, finish)
  if heads[1] and finish >= heads[1].finish then
    return false
  end
  for _, head in ipairs(heads) do
    if cost > head.allowance then
      return false
    end
  end
  return true
end

-- Deals `left` out, on paper, and says what falls to `process`: rules 8 and 9, bank/deal.rs. What `limit`
-- does not cover, no level ever will.
-- A hand is its tag, its process, how many steps of its line it has had, and its share once it has had a
-- turn.
local function deal(process, own, others, left, limit, price, line_of)
  local dealt = {
    drawn = nothing(), dominant = nothing(), steps = 0, tag = own[TAG], virtual_time = 0, recalled = false,
    -- Of its line it is granted so much in all, and at most.
    all = 0, largest = 0,
    -- Whom it passes: the process, by how much, and the price of that one's head.
    passed = {},
  }
  local hands = hands_of(process, own, others, left)
  local mine = hands[1]
  heapify(hands)
  -- The head, and behind it those who were passed as the head before another one came to stand before
  -- them: they are passed on their own account, too.
  local heads = {}
  -- What it is granted in all.
  local granted = 0
  -- Once it has had its turn, all that matters is whether another one is the head for whom leases are
  -- called back: no step is larger than this.
  local is_in, is_large = not wants_nothing(own), price(others.most) > LARGE
  while hands[1] do
    if not is_in and (heads[1] or not is_large) then
      break
    end
    local hand = hands[1]
    hand.share = hand.share or share_of(others, hand[2])
    local share, is_mine = hand.share, hand[2] == process
    local step, is_whole = step_of(hand, left, line_of)
    local cost, scarcest = price(step)
    local finish = hand[1] + cost / share[WEIGHT]
    local is_out = true
    if is_whole and not fits(step, left) then
      if is_in and not is_mine then
        -- What does not fit now never will: what is left only becomes less.
        local its = step_of(mine, left, line_of)
        is_in = fits(its, left) and not is_nothing(its)
      end
      if fits(step, limit) and (not heads[1] or share[PASSED] > 0) then
        heads[#heads + 1] = {
          process = hand[2], finish = finish, price = cost,
          allowance = allowance_of(share, cost), past = 0,
        }
      end
    elseif not is_nothing(step) and may_be_passed(heads, cost, finish) then
      left = minus(left, step)
      for _, head in ipairs(heads) do
        head.allowance = head.allowance - cost
        if is_mine then
          head.past = head.past + cost
        end
      end
      if is_mine then
        dealt.drawn = plus(dealt.drawn, step)
        dealt.dominant[scarcest] = dealt.dominant[scarcest] + step[scarcest]
        dealt.virtual_time = max(dealt.virtual_time, hand[1])
        dealt.tag = finish
        granted = granted + cost
        if is_whole then
          dealt.steps = dealt.steps + 1
          dealt.all, dealt.largest = dealt.all + cost, max(dealt.largest, cost)
        end
      end
      hand[1] = finish
      hand.taken = hand.taken + 1
      is_out = not is_whole
    end
    if is_out then
      pop(hands)
      is_in = is_in and not is_mine
    else
      sink(hands, 1)
    end
  end
  for at, head in ipairs(heads) do
    if head.process ~= process then
      local is_called_back = at == 1 and head.price > LARGE
      dealt.recalled = dealt.recalled or is_called_back
      -- A large one counts who was first, too.
      local cost = is_called_back and granted or head.past
      if cost > 0 then
        dealt.passed[#dealt.passed + 1] = { head.process, cost, head.price }
      end
    end
  end
  return dealt
end

-- ===== the ledger =====

local report = cjson.decode(ARGV[1])
local process = report.process

-- The head of the ledger:
--   life             its first instant by the machine's clock, which no other life has
--   answered, came   how many reports it took in, and when the last one was
--   began, lost      when this life began (0 before the first report), or was last set back; whether
--                    there was something before that
--   learning         nothing is granted before
--   last, offset     its clock, and what is added to the machine's
--   server           on which server, by the number of its start
--   processes, left  when each process came last that is not silent, and those that said goodbye
--   silent, killed, oldest   how many are put by, how many of those did not say goodbye, and when
--                    the first of them came last
--   pools            the fields of all pools
local time = call('TIME')
local machine = time[1] * SECOND + time[2]

-- Every layout has the field `layout`: its number, and when it was last written, by the machine's
-- clock. One of an older number to which nobody has come for longer than lease and transit is taken
-- over: who held anything of it is gone, and has spent it. Whatever else is there is left alone.
local is_taken_over = false
local layout = call('HGET', key, 'layout')
if layout or call('EXISTS', key) == 1 then
  local number, written = string.match(layout or '', '^(%d+) (%d+)$')
  number, written = tonumber(number), tonumber(written)
  if not number then
    return redis.error_reply('FOREIGN it has no number of a layout')
  end
  is_taken_over = number < LAYOUT and machine - written > LEASE + TRANSIT
  if is_taken_over then
    call('DEL', key)
  elseif number ~= LAYOUT then
    return redis.error_reply(string.format('LAYOUT %d %d', number, LAYOUT))
  end
end

local head
if layout and not is_taken_over then
  head = parse(call('HGET', key, 'ledger'))
else
  head = {
    life = machine, answered = 0, came = 0, began = 0, lost = false, learning = 0,
    last = machine, offset = 0, server = '', processes = {}, left = {}, pools = {},
    silent = 0, killed = 0, oldest = huge,
  }
end

-- The clock never goes back.
local now = machine + head.offset
if now < head.last then
  head.offset = head.offset + head.last - now
  now = head.last
end
head.last = now

local function is_there(came)
  return now - came <= LEASE
end

local function is_silent(came)
  return now - came > LEASE + TRANSIT
end

local writes = {}

local function write(field, value)
  writes[#writes + 1], writes[#writes + 2] = field, value
end

-- A call may have only so many arguments.
local MOST = 1000

local function save()
  write('layout', string.format('%d %.0f', LAYOUT, machine))
  write('ledger', pack(head))
  for from = 1, #writes, MOST do
    call('HSET', key, unpack(writes, from, min(from + MOST - 1, #writes)))
  end
  call('EXPIRE', key, KEPT)
end

-- Calls `told` with each of these shares that is there, packed, and its place.
local function read_shares(fields, told)
  for from = 1, #fields, MOST do
    local packed = call('HMGET', key, unpack(fields, from, min(from + MOST - 1, #fields)))
    for at = 1, #packed do
      if packed[at] then
        told(packed[at], from + at - 1)
      end
    end
  end
end

local function told(taken, pools)
  local there = 0
  for _, came in pairs(head.processes) do
    if is_there(came) then
      there = there + 1
    end
  end
  return {
    head.life, head.answered, taken, now, LEASE, max(there, 1), max(head.learning - now, 0), pools,
  }
end

-- Processes that have been silent for long are put by, so that they cost nothing; one that comes
-- back is known still. By its number: when it came, and whether it left.
local function silent_ones()
  local silent = call('HGET', key, 'silent')
  return silent and parse(silent) or {}
end

local function put_by(silent)
  head.silent, head.killed, head.oldest = 0, 0, huge
  for _, it in pairs(silent) do
    head.silent = head.silent + 1
    head.killed = head.killed + 1 - it[2]
    head.oldest = min(head.oldest, it[1])
  end
  write('silent', pack(silent))
end

-- Rule 1: once each. A process's last grant is kept behind its number.
local NUMBER_SIZE = 8
local last, last_grant
if head.processes[process] or head.left[process]
  or (head.silent > 0 and silent_ones()[process]) then
  last_grant = call('HGET', key, 'grant:' .. process)
  last = last_grant and struct.unpack('>d', last_grant)
end
if last == report.number then
  save()
  return parse(string.sub(last_grant, NUMBER_SIZE + 1))
end
if (last and last > report.number) or (report.expires and report.expires < now) then
  save()
  return told(0, {})
end

-- ===== pools =====

local function field_of(name)
  return name and 'pool:' .. name or 'account'
end

local function share_field(field, id)
  return field .. ':' .. id
end

local function line_field(field, id)
  return field .. ':' .. id .. ':line'
end

local function own_field(field, id)
  return field .. ':' .. id .. ':own'
end

local function load_pool(field)
  local pool = call('HGET', key, field)
  return pool and parse(pool)
end

local function rest_until(pool, known, instant)
  for _, meter in ipairs(pool.meters) do
    refill(meter.level, known)
    meter.level.at = max(meter.level.at, instant)
  end
end

-- Grants nothing for a while, and credits nothing for the time since `known`: rule 11. Levels that
-- may have been restored from an older state fall to what they would begin with.
local function learn(known, is_restored)
  head.learning = now + LEARNING
  for _, field in ipairs(head.pools) do
    local pool = load_pool(field)
    rest_until(pool, known, head.learning)
    for _, meter in ipairs(is_restored and pool.meters or {}) do
      lower(meter.level, after_loss(meter), 0)
    end
    call('HSET', key, field, pack(pool))
  end
end

local function notice_what_was_lost()
  -- Another server than before, or the same one restarted: whatever it did last may be lost.
  local server = string.match(call('INFO', 'server'), 'run_id:(%w+)') or ''
  local is_other = head.server ~= server
  head.server = server
  local seen = report.seen
  if head.began == 0 then
    head.began, head.lost = now, seen ~= nil or is_taken_over
    learn(now, false)
    return
  end
  if seen and seen[1] ~= head.life and now < head.began + LEARNING then
    head.lost = true
  end
  local of_this_life = seen and seen[1] == head.life
  local is_behind = of_this_life and seen[2] > head.answered
  -- It has a grant that nobody here knows of. (So has one that was forgotten; that is rare.)
  local is_unknown = of_this_life and report.received > (last or 0)
  if is_behind or is_unknown or is_other then
    if is_behind then
      head.answered = seen[2]
    end
    head.lost, head.began = true, now
    learn(now, true)
    return
  end
  if now - head.came > LEASE + TRANSIT then
    if head.killed > 0 or next(head.processes) then
      learn(head.came, false)
    end
  end
end

-- What it held anywhere has landed by now.
local function bury_everywhere(id)
  for _, field in ipairs(head.pools) do
    local pool = load_pool(field)
    local share = pool.members[id] and call('HGET', key, share_field(field, id))
    if share then
      share = parse_share(share)
      for _, meter in ipairs(pool.meters) do
        land(meter, share[HELD + meter.unit - 1], now)
      end
      pool.members[id] = nil
      call('HSET', key, field, pack(pool))
    end
    call('HDEL', key, share_field(field, id), line_field(field, id), own_field(field, id))
  end
  call('HDEL', key, 'grant:' .. id)
end

-- Puts by who is silent, and forgets who has been for long.
local function forget()
  local silent
  for left, all in pairs({ [0] = head.processes, [1] = head.left }) do
    for id, came in pairs(all) do
      if is_silent(came) then
        silent = silent or silent_ones()
        silent[id] = { came, left }
        all[id] = nil
      end
    end
  end
  local is_back = last and not head.processes[process] and not head.left[process]
  if silent or is_back or now - head.oldest > FORGOTTEN then
    silent = silent or silent_ones()
    for id, it in pairs(silent) do
      if now - it[1] > FORGOTTEN then
        bury_everywhere(id)
        silent[id] = nil
        if id == process then
          last = nil
        end
      end
    end
    -- It will be among those that came.
    silent[process] = nil
    put_by(silent)
  end
end

notice_what_was_lost()
forget()
head.answered = head.answered + 1
head.came = now
local is_learning = now < head.learning
local may_draw = report.expires and not is_learning and not report.leaving

-- The largest tag of those who were members and are no more.
local function buried_tag(field, pool)
  local fields, most = {}, -huge
  for _, all in ipairs({ silent_ones(), head.processes, head.left }) do
    for id in pairs(all) do
      if not pool.members[id] then
        fields[#fields + 1] = share_field(field, id)
      end
    end
  end
  read_shares(fields, function(packed)
    most = max(most, parse_share(packed)[TAG])
  end)
  return most
end

-- What a silent process held has landed: rule 5.
local function bury(pool, share)
  for _, meter in ipairs(pool.meters) do
    land(meter, share[HELD + meter.unit - 1], now)
  end
  put(share, HELD, nothing())
  put(share, IDLE, nothing())
  share[RESTING] = 0
  forgive(share)
  share[VOID] = 1
end

-- Its slots come back at the end of the lease, and it wants nothing any more.
local function end_lease(share)
  share[SLOTS], share[SLOTS_WANTED] = 0, 0
  want_nothing(share)
end

-- One who could have slots, for `slots_for`.
local function slot_hand_of(id, share)
  return {
    share[SLOTS] / share[WEIGHT], id,
    slots = share[SLOTS], wants = share[SLOTS_WANTED], weight = share[WEIGHT],
  }
end

-- One who is not there any more: its slots come back at the end of its lease, and what it held has
-- landed after its transit. Says whether it still counts in the pool.
local function outlive(field, pool, id, share)
  local is_gone = is_silent(share[CAME])
  if is_gone then
    bury(pool, share)
  end
  local had_something = share[SLOTS] > 0 or share[SLOTS_WANTED] > 0 or not wants_nothing(share)
  if had_something then
    end_lease(share)
  end
  if id == process then
    return true
  end
  if had_something or is_gone then
    write(share_field(field, id), pack_share(share))
  end
  if is_gone then
    pool.members[id] = nil
    pool.buried = max(pool.buried, share[TAG])
  end
  return not is_gone
end

-- Reads the shares of a pool's members (those that hold or want something, or came lately), buries
-- who is silent, and adds up what the others come to: nothing of theirs changes in this run, but
-- what passed the head. Of one that is there no table is made here: that would take most of a run.
local function survey(field, pool)
  local ids, fields = {}, {}
  for id in pairs(pool.members) do
    ids[#ids + 1], fields[#fields + 1] = id, share_field(field, id)
  end
  local others = {
    -- Their shares as they are kept, and those that were asked for.
    packed = {}, shares = {},
    terms = {}, interval = 0, idle = nothing(), resting = 0, slots = 0, tag = -huge,
    -- Who wants something, and its tag; what they want in all, and no line more than `most`.
    names = {}, tags = {}, wants = nothing(), most = nothing(),
    -- The most requests that a first one in line takes at once.
    widest = 0,
    waiting = {}, slots_wanted = 0,
  }
  local idle, wants, most, there = others.idle, others.wants, others.most, now - LEASE
  local own
  read_shares(fields, function(packed, at)
    local id = ids[at]
    -- In the order of a share.
    local came, _, tag, _, interval, max_slots, slots, slots_wanted,
      _, _, _, _, _, idle_1, idle_2, idle_3, idle_4, idle_5,
      beside_1, beside_2, beside_3, beside_4, beside_5,
      lined_1, lined_2, lined_3, lined_4, lined_5,
      first_1, _, _, _, _, length, _, resting, terms = parse(packed)
    local is_there = came >= there
    if not is_there or id == process then
      local share = parse_share(packed)
      local counts = is_there or outlive(field, pool, id, share)
      if id == process then
        own = share
        return
      end
      if not counts then
        return
      end
      packed, others.shares[id] = pack_share(share), share
      slots = share[SLOTS]
    end
    others.packed[id] = packed
    others.slots, others.resting = others.slots + slots, others.resting + resting
    idle[1], idle[2], idle[3] = idle[1] + idle_1, idle[2] + idle_2, idle[3] + idle_3
    idle[4], idle[5] = idle[4] + idle_4, idle[5] + idle_5
    if tag > others.tag then
      others.tag = tag
    end
    if not is_there then
      return
    end
    others.terms[terms] = true
    if interval > others.interval then
      others.interval = interval
    end
    if max_slots ~= NO_LIMIT and (not others.max_slots or max_slots < others.max_slots) then
      others.max_slots = max_slots
    end
    if length > 0 or beside_1 > 0 or beside_2 > 0 or beside_3 > 0 or beside_4 > 0 or beside_5 > 0 then
      local last = #others.names + 1
      others.names[last], others.tags[last] = id, tag
      wants[1], wants[2] = wants[1] + lined_1 + beside_1, wants[2] + lined_2 + beside_2
      wants[3], wants[4] = wants[3] + lined_3 + beside_3, wants[4] + lined_4 + beside_4
      wants[5] = wants[5] + lined_5 + beside_5
      most[1], most[2], most[3] = max(most[1], lined_1), max(most[2], lined_2), max(most[3], lined_3)
      most[4], most[5] = max(most[4], lined_4), max(most[5], lined_5)
      others.widest = max(others.widest, first_1)
    end
    if slots_wanted > 0 then
      others.slots_wanted = others.slots_wanted + slots_wanted
      others.waiting[#others.waiting + 1] = id
    end
  end)
  return own, others
end

-- The most calls in flight, if anybody limits them.
local function agreed_slots(share, others)
  local own = share[MAX_SLOTS]
  if own == NO_LIMIT then
    return others.max_slots
  end
  return min(own, others.max_slots or own)
end

-- Of everybody's limits the lowest hold: rule 6.
local function agree(pool, share, others)
  local agreed = {}
  others.terms[share[TERMS]] = true
  for packed in pairs(others.terms) do
    for _, it in ipairs(parse(packed)) do
      local of = it[1] * 10 + it[2]
      local lowest = agreed[of]
      if lowest then
        lowest.limit = min(lowest.limit, it[3])
        lowest.rate = min(lowest.rate, it[4])
        lowest.capacity = min(lowest.capacity, it[5])
        lowest.windowed = max(lowest.windowed, it[6])
      else
        agreed[of] = {
          unit = it[1], per = it[2], limit = it[3], rate = it[4], capacity = it[5],
          windowed = it[6],
        }
      end
    end
  end
  local meters = {}
  for _, meter in ipairs(pool.meters) do
    local of = meter.unit * 10 + meter.per
    if agreed[of] then
      take_over(meter, agreed[of], now)
      agreed[of] = nil
      meters[#meters + 1] = meter
    end
  end
  for _, terms in pairs(agreed) do
    -- It begins empty, beside what everybody holds.
    local meter = new_meter(terms, now)
    lower(meter.level, 0, 0)
    local held = share[HELD + terms.unit - 1]
    for id in pairs(others.packed) do
      held = held + share_of(others, id)[HELD + terms.unit - 1]
    end
    adopt(meter, held, now)
    if not pool.opening then
      open(meter, head.lost, head.began, now)
    end
    meters[#meters + 1] = meter
  end
  table.sort(meters, function(one, other)
    return one.unit * 10 + one.per < other.unit * 10 + other.per
  end)
  pool.meters = meters
end

-- Launches that come back and are the last make their instants free again: rule 10.
local function unbook(pool, launches, interval)
  local booked = pool.booked
  if launches == 0 or interval == 0 or not booked or booked[1] ~= process then
    return
  end
  local back = min(launches, booked[2])
  pool.next = max(pool.next - interval * back, 0)
  booked[2] = booked[2] - back
  if booked[2] == 0 then
    pool.booked = nil
  end
end

local function difference(sum, known)
  local new = {}
  for unit = 1, UNITS do
    new[unit] = max(ahead(sum[unit], known[unit]), 0)
  end
  return new
end

-- What it has now, against what it had: rules 1, 3 and 4.
local function count(pool, share, own, interval, of)
  if own[NUMBER] > report.received and share[VOID] == 0 then
    -- What the last grant gave was never had.
    local drawn = own[DRAWN]
    put(share, HELD, minus(amounts_at(share, HELD), drawn))
    share[SLOTS] = max(share[SLOTS] - own[DRAWN_SLOTS], 0)
    own[ADVANCED] = minus(own[ADVANCED], drawn)
    for _, meter in ipairs(pool.meters) do
      give_back(meter, drawn[meter.unit], now)
    end
    unbook(pool, own[DRAWN_LAUNCHES], interval)
  end
  local new_owed = difference(of.owed, own[OWED])
  local new_unused = difference(of.unused, own[UNUSED])
  local new_launches = max(ahead(of.launches_returned, own[LAUNCHES_RETURNED]), 0)
  local holds, had = plus(of.idle, of.transit), amounts_at(share, HELD)
  -- Of what was taken for landed meanwhile, nothing comes back.
  local returned = least(difference(of.returned, own[RETURNED]), had)
  local rest = minus(had, returned)
  put(share, HELD, holds)
  put(share, IDLE, of.idle)
  share[RESTING] = of.idle[REQUESTS]
  share[SLOTS] = of.slots_used + of.slots_idle
  local moved = settle_advance(own, pool.meters, seconds_of(interval), {
    idle = of.idle, returned = returned, owed = new_owed, unused = new_unused,
    more = difference(of.dominant, own[DOMINANT]), less = difference(own[DOMINANT], of.dominant),
  })
  share[TAG] = share[TAG] + moved / share[WEIGHT]
  local landed, adopted = minus(rest, holds), minus(holds, rest)
  for at, meter in ipairs(pool.meters) do
    local unit = meter.unit
    give_back(meter, returned[unit], now)
    land(meter, landed[unit], now)
    adopt(meter, adopted[unit], now)
    if new_owed[unit] > 0 then
      owe(meter, new_owed[unit], now)
    end
    if new_unused[unit] > 0 and of.rooms[at] then
      -- What landed stays in the window: nobody knows any more in which part it is.
      credit_late(meter.level, new_unused[unit], of.rooms[at], now)
    end
  end
  unbook(pool, new_launches, interval)
  share[VOID] = 0
end

-- The provider's word: rule 7.
local function listen(pool, idle, of)
  local may_rise = (pool.held == 0 or now >= pool.held + STEADY) and now >= (pool.rises or 0)
  for _, it in ipairs(of.told) do
    for _, meter in ipairs(pool.meters) do
      if meter.unit == it.unit and meter.per == it.per then
        if it.delay then
          wait_for(meter, it.amount, it.delay, now)
          pool.rises = max(pool.rises or 0, now + max(it.delay, STALE))
        else
          correct(meter, it.remaining, it.mark, idle[meter.unit], may_rise, now)
        end
      end
    end
  end
  if of.held then
    local instant = now + of.held
    if instant > max(pool.held, now) + NEWS then
      call('PUBLISH', channel, process)
    end
    pool.held = max(pool.held, instant)
    pool.drains = true
  end
end

local function line_up(pool, share, own, others, interval, of)
  local is_new, weight = wants_nothing(share), max(of.weight, 1)
  if weight ~= share[WEIGHT] then
    -- What it has in advance is charged, and is settled, at one weight.
    local price = sum_of(pool.meters, seconds_of(interval), own[CHARGED])
    share[TAG] = share[TAG] + (price / weight - price / share[WEIGHT])
  end
  share[WEIGHT] = weight
  share[SLOTS_WANTED] = of.slots_wanted
  want(share, of.line, of.wanted)
  if is_new and not wants_nothing(share) then
    share[TAG] = max(share[TAG], pool.virtual_time)
  end
  if not of.line[1] then
    forgive(share)
  end
  if not others.names[1] and wants_nothing(share) then
    pool.virtual_time = max(pool.virtual_time, share[TAG], others.tag, pool.buried)
  end
end

-- Free slots go one by one to whoever has least for its weight: rule 10.
local function slots_for(share, others, most)
  local wanted = share[SLOTS_WANTED]
  local free = max((most or huge) - others.slots - share[SLOTS], 0)
  if others.slots_wanted + wanted <= free then
    return wanted
  end
  if wanted == 0 or free == 0 then
    return 0
  end
  local hands = { slot_hand_of(process, share) }
  for _, id in ipairs(others.waiting) do
    hands[#hands + 1] = slot_hand_of(id, share_of(others, id))
  end
  heapify(hands)
  local given = 0
  while free > 0 and hands[1] do
    local hand = hands[1]
    free = free - 1
    hand.slots, hand.wants = hand.slots + 1, hand.wants - 1
    if hand[2] == process then
      given = given + 1
    end
    hand[1] = hand.slots / hand.weight
    if hand.wants == 0 then
      pop(hands)
    else
      sink(hands, 1)
    end
    if given == wanted then
      break
    end
  end
  return given
end

-- Books launches, for at most a second ahead, or one.
local function book(pool, of, interval)
  local booked = {}
  if interval == 0 then
    return booked
  end
  while #booked < of.launches_wanted do
    local at = max(pool.next, now)
    if (of.launches_idle > 0 or #booked > 0) and at > now + AHEAD then
      break
    end
    booked[#booked + 1] = at - now
    pool.next = at + interval
  end
  if #booked > 0 then
    pool.booked = { process, #booked }
  end
  return booked
end

-- What falls to this process: rules 8 to 10. What of the line was granted is no longer in it.
local function grant(field, pool, share, own, others, interval, of)
  if pool.held > now then
    return nothing(), 0, {}, 0
  end
  if pool.drains then
    pool.drains = false
    for _, meter in ipairs(pool.meters) do
      refill(meter.level, now)
      lower(meter.level, 0, 0)
    end
  end
  local resting, left = others.resting + share[RESTING], { huge, huge, huge, huge, huge }
  local limit, widest = { huge, huge, huge, huge, huge }, max(others.widest, share[FIRST])
  for _, meter in ipairs(pool.meters) do
    widen(meter, widest, now)
    left[meter.unit] = min(left[meter.unit], left_of(meter, resting, now))
    limit[meter.unit] = min(limit[meter.unit], meter.level.cap)
  end
  local seconds = seconds_of(interval)
  local function price(amounts)
    return price_of(pool.meters, seconds, amounts)
  end
  local dealt = deal(process, share, others, left, limit, price, function(id)
    return id == process and flat(of.line) or { parse(call('HGET', key, line_field(field, id))) }
  end)
  for _, it in ipairs(dealt.passed) do
    local passed = share_of(others, it[1])
    count_passing(passed, it[2], it[3])
    write(share_field(field, it[1]), pack_share(passed))
  end
  for _, meter in ipairs(pool.meters) do
    draw(meter, dealt.drawn[meter.unit], now)
  end
  pool.virtual_time = max(pool.virtual_time, dealt.virtual_time)
  local slots = slots_for(share, others, agreed_slots(share, others))
  local launches = book(pool, of, interval)
  share[SLOTS] = share[SLOTS] + slots
  share[SLOTS_WANTED] = share[SLOTS_WANTED] - slots
  put(share, HELD, plus(amounts_at(share, HELD), dealt.drawn))
  put(share, IDLE, plus(of.idle, dealt.drawn))
  share[TAG] = dealt.tag
  own[ADVANCED], own[CHARGED] = plus(own[ADVANCED], dealt.drawn), plus(own[CHARGED], dealt.dominant)
  if dealt.steps > 0 then
    local most = 0
    for at = dealt.steps + 1, #of.line do
      most = max(most, (price(of.line[at])))
    end
    serve(share, dealt.all, dealt.largest, most)
  end
  if not is_nothing(dealt.drawn) then
    local in_line, rest = nothing(), {}
    for at, step in ipairs(of.line) do
      if at <= dealt.steps then
        in_line = plus(in_line, step)
      else
        rest[#rest + 1] = step
      end
    end
    of.line = rest
    local beside = minus(dealt.drawn, in_line)
    share[RESTING] = share[RESTING] + beside[REQUESTS]
    want(share, rest, minus(of.wanted, beside))
  end
  return dealt.drawn, slots, launches, dealt.recalled and 1 or 0
end

-- What the grant says of this pool.
local function tell(pool, share, others, drawn, slots, launches, recalled)
  local marks, rooms, meters, levels = {}, {}, {}, {}
  for at, meter in ipairs(pool.meters) do
    local level = meter.level
    refill(level, now)
    marks[at] = circle(meter.drawn - level.held)
    rooms[at] = room_of(level)
    meters[at] = { meter.unit, meter.per, meter.limit, level.rate, level.cap, meter.windowed }
    levels[at] = level.whole
  end
  return {
    drawn, slots, launches, recalled, max(pool.held - now, 0), marks, rooms, meters, levels,
    agreed_slots(share, others) or NO_LIMIT, others.slots + share[SLOTS],
  }
end

-- Takes in how the process stands in a pool, and grants.
local function settle(of)
  local field = field_of(of.name)
  local pool = load_pool(field)
  if not pool then
    pool = {
      meters = {}, members = {}, virtual_time = 0, held = 0, drains = false, next = 0,
      opening = is_learning, buried = -huge,
    }
    head.pools[#head.pools + 1] = field
  end
  local share, others = survey(field, pool)
  local own = last and call('HGET', key, own_field(field, process))
  own = own and parse(own) or new_own(of)
  if not share then
    local packed = last and call('HGET', key, share_field(field, process))
    share = packed and parse_share(packed) or new_share()
    pool.members[process] = 1
    if packed and share[TAG] >= pool.buried then
      pool.buried = buried_tag(field, pool)
    end
  end
  share[CAME], share[TERMS] = now, pack(of.meters)
  share[MAX_SLOTS], share[INTERVAL] = of.max_slots or NO_LIMIT, of.interval
  local interval = max(others.interval, of.interval)
  agree(pool, share, others)
  count(pool, share, own, interval, of)
  listen(pool, plus(others.idle, of.idle), of)
  line_up(pool, share, own, others, interval, of)
  if is_learning then
    rest_until(pool, now, head.learning)
  elseif pool.opening then
    pool.opening = false
    for _, meter in ipairs(pool.meters) do
      open(meter, head.lost, head.began, now)
    end
  end
  local drawn, slots, launches, recalled = nothing(), 0, {}, 0
  if may_draw then
    drawn, slots, launches, recalled = grant(field, pool, share, own, others, interval, of)
  end
  write(share_field(field, process), pack_share(share))
  write(line_field(field, process), of.line[1] and pack(unpack(flat(of.line))) or '')
  write(own_field(field, process), pack({
    report.number, drawn, slots, #launches, of.returned, of.owed, of.unused, of.launches_returned,
    of.dominant, own[ADVANCED], own[CHARGED], own[PAID],
  }))
  write(field, pack(pool))
  return tell(pool, share, others, drawn, slots, launches, recalled)
end

local pools = {}
for at, of in ipairs(report.pools) do
  pools[at] = settle(of)
end
head.processes[process], head.left[process] = now, nil
if report.leaving then
  head.processes[process], head.left[process] = nil, now
end
local answer = told(1, pools)
write('grant:' .. process, struct.pack('>d', report.number) .. pack(answer))
save()
return answer
