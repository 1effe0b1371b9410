-- The head of every script. KEYS begins with the records, in this order, then has the records of leases and the keys
-- that the call names, so that an ACL refuses a script before it begins. Redis does not roll back, so a script checks
-- first and writes after.
--   leases     sorted set: lease → deadline in ms
--   grants     hash: lease → TTL in seconds, and a seat's nonce
--   owners     hash: key → lease
--   index      sorted set with equal scores: the keys in the order of their bytes
--   revision   the number of transactions that have changed something
--   revisions  hash: key → revisions of its first and its last put
--   lease:<id> hash: key → value as it was put
local LEASES, GRANTS, OWNERS, INDEX, REVISION, REVISIONS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function record(lease)
  return 'docker-register:lease:' .. lease
end

-- The time in ms at which a lease ends; none if it has ended. A key still lives in its last ms, so a lease does too.
local function deadline(lease)
  local at = redis.call('ZSCORE', LEASES, lease)
  at = at and tonumber(at)
  return at and at >= now and at or nil
end

-- Whether a key has this value and a TTL, as a registrar put it. A `SET` by hand takes the TTL away.
local function is_as_put(key, value)
  return redis.call('TYPE', key).ok == 'string' and redis.call('GET', key) == value and redis.call('PTTL', key) ~= -1
end

-- A key's value and its lease: '' for none, '?' and its type for a stranger's. Nothing for a missing key, and for one
-- whose lease has ended in this ms.
local function state(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    return nil
  elseif kind ~= 'string' then
    return '', '?' .. kind
  end
  local value = redis.call('GET', key)
  if redis.call('PTTL', key) == -1 then
    return value, ''
  end
  local lease = redis.call('HGET', OWNERS, key)
  if not lease or redis.call('HGET', record(lease), key) ~= value then
    return value, '?string'
  elseif deadline(lease) then
    return value, lease
  end
  return nil
end

local function forget(key)
  redis.call('HDEL', OWNERS, key)
  redis.call('HDEL', REVISIONS, key)
  redis.call('ZREM', INDEX, key)
end
