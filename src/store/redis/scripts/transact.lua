-- Carries out a transaction. ARGV has the guards and then the steps, each with its arguments; a key is its place in KEYS.
-- Returns 'guard' if a guard does not hold, 'lost' if a put names a lease that does not exist, else the swept keys.
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function take_key()
  return KEYS[tonumber(take())]
end

-- A record of the wrong type is an error here, and not after the first write.
redis.call('ZSCORE', INDEX, '')
redis.call('HEXISTS', OWNERS, '')
redis.call('HEXISTS', REVISIONS, '')

local function holds(low, high, expected, keys)
  for _, pair in ipairs(keys) do
    local value, lease = state(pair[1])
    if not value or lease ~= pair[2] then
      return false
    end
  end
  for _, key in ipairs(redis.call('ZRANGEBYLEX', INDEX, low, high)) do
    if not expected[key] and redis.call('EXISTS', key) == 1 then
      return false
    end
  end
  return true
end

local puts, deletes, swept = {}, {}, {}
while at < #ARGV do
  local kind = take()
  if kind == 'missing' then
    if state(take_key()) then
      return 'guard'
    end
  elseif kind == 'on' then
    local value, lease = state(take_key())
    if lease ~= take() then
      return 'guard'
    end
  elseif kind == 'loose' then
    local value, lease = state(take_key())
    if take() ~= value or lease ~= '' then
      return 'guard'
    end
  elseif kind == 'put' then
    local put = { key = take_key(), value = take(), lease = take() }
    put.at = deadline(put.lease)
    if not put.at then
      return 'lost'
    end
    redis.call('HEXISTS', record(put.lease), '')
    put.exists = state(put.key)
    puts[#puts + 1] = put
  elseif kind == 'delete' then
    deletes[#deletes + 1] = take_key()
  else
    local low, high, expected, keys = take(), take(), {}, {}
    for _ = 1, tonumber(take()) do
      expected[take()] = true
    end
    for _ = 1, tonumber(take()) do
      keys[#keys + 1] = { take_key(), take() }
    end
    if holds(low, high, expected, keys) then
      for _, pair in ipairs(keys) do
        swept[#swept + 1] = pair[1]
      end
    end
  end
end

-- The first write decides: a Redis whose memory is full refuses an INCR, and lets a script that has deleted something
-- write on.
local revision = puts[1] and redis.call('INCR', REVISION)
local gone = 0
local function delete(key)
  gone = gone + redis.call('DEL', key)
  local lease = redis.call('HGET', OWNERS, key)
  if lease then
    redis.call('HDEL', record(lease), key)
    forget(key)
  end
end
for _, put in ipairs(puts) do
  local key, lease = put.key, put.lease
  local before = redis.call('HGET', OWNERS, key)
  local created = put.exists and redis.call('HGET', REVISIONS, key)
  created = created and string.match(created, '^%d+') or revision
  redis.call('SET', key, put.value, 'PXAT', put.at)
  if before and before ~= lease then
    redis.call('HDEL', record(before), key)
  end
  redis.call('HSET', record(lease), key, put.value)
  redis.call('HSET', OWNERS, key, lease)
  redis.call('HSET', REVISIONS, key, created .. ' ' .. revision)
  redis.call('ZADD', INDEX, 0, key)
end
for _, key in ipairs(deletes) do
  delete(key)
end
for _, key in ipairs(swept) do
  delete(key)
end
if gone > 0 and not revision then
  redis.call('INCR', REVISION)
end
return swept
