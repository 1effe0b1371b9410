-- Forgets leases that have expired, at most about ARGV[1] of their keys. Redis deletes a key that has expired when
-- somebody asks for it, or later when it comes across it, and only then tells those who watch.
local room = tonumber(ARGV[1])
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', string.format('(%.0f', now), 'LIMIT', 0, 20)) do
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', record(lease), cursor, 'COUNT', 500)
    cursor = page[1]
    for place = 1, #page[2], 2 do
      local key = page[2][place]
      if redis.call('HGET', OWNERS, key) == lease then
        -- An ACL may deny it; then Redis finds the key by itself.
        redis.pcall('EXISTS', key)
        forget(key)
      end
      redis.call('HDEL', record(lease), key)
    end
    room = room - #page[2] / 2
  until cursor == '0' or room <= 0
  if redis.call('HLEN', record(lease)) == 0 then
    redis.call('ZREM', LEASES, lease)
    redis.call('HDEL', GRANTS, lease)
  end
  if room <= 0 then
    break
  end
end
return 0
