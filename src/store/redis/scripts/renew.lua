-- Renews leases, or grants those that do not exist if ARGV[1] is 'grant'. ARGV[2] is this process's nonce, ARGV[3] the
-- most keys of this call. Then come four arguments for each lease: itself, its TTL in seconds, and, for one whose keys
-- did not fit into the call before, the place to go on from and the deadline in ms.
-- Returns what is done (lease, TTL), what is left (the four arguments again), and the first error.
local grants, nonce, room = ARGV[1] == 'grant', ARGV[2], tonumber(ARGV[3])
local done, rest, failure = {}, {}, ''

-- A Redis whose memory is full refuses to set a deadline, unless the script has removed something before.
redis.call('ZREM', LEASES, '')

local function renew_keys(lease, cursor, at)
  repeat
    local page = redis.call('HSCAN', record(lease), cursor, 'COUNT', 500)
    cursor = page[1]
    for place = 1, #page[2], 2 do
      local key, value = page[2][place], page[2][place + 1]
      -- One key that an ACL denies must not keep the others from being renewed.
      local ours = redis.call('HGET', OWNERS, key) == lease
      local kind = redis.pcall('TYPE', key)
      if kind.err then
        failure = failure == '' and kind.err or failure
      elseif not ours or kind.ok == 'none' then
        redis.call('HDEL', record(lease), key)
        if ours then
          forget(key)
        end
      elseif is_as_put(key, value) then
        local renewed = redis.pcall('PEXPIREAT', key, at)
        if type(renewed) == 'table' and renewed.err then
          failure = failure == '' and renewed.err or failure
        end
      end
    end
    room = room - #page[2] / 2
  until cursor == '0' or room <= 0
  return cursor
end

for place = 4, #ARGV, 4 do
  local lease, ttl, cursor, at = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  if room <= 0 then
    rest[#rest + 1] = { lease, ttl, cursor, at }
  else
    local lives = deadline(lease) ~= nil
    local granted, holder = string.match(lives and redis.call('HGET', GRANTS, lease) or '', '^(%d+) (.*)$')
    if not lives and grants then
      redis.call('HSET', GRANTS, lease, ttl .. ' ')
      lives = true
    end
    -- A seat is renewed by its holder alone.
    if lives and (not holder or holder == '' or holder == nonce) then
      ttl = granted or ttl
      if at == '' then
        at = string.format('%.0f', now + ttl * 1000)
        redis.call('ZADD', LEASES, at, lease)
      end
      cursor = renew_keys(lease, cursor, at)
      if cursor == '0' then
        done[#done + 1] = { lease, tonumber(ttl) }
      else
        rest[#rest + 1] = { lease, ttl, cursor, at }
      end
    end
  end
end
return { done, rest, failure }
