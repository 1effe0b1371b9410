-- Ends the lease ARGV[1] and deletes the keys on it, at most about ARGV[2] of them. Returns 1 when it has ended.
local lease, room, gone = ARGV[1], tonumber(ARGV[2]), 0
local cursor = '0'
repeat
  local page = redis.call('HSCAN', record(lease), cursor, 'COUNT', 500)
  cursor = page[1]
  for place = 1, #page[2], 2 do
    local key, value = page[2][place], page[2][place + 1]
    if redis.call('HGET', OWNERS, key) == lease then
      if is_as_put(key, value) then
        gone = gone + redis.call('DEL', key)
      end
      forget(key)
    end
    redis.call('HDEL', record(lease), key)
  end
  room = room - #page[2] / 2
until cursor == '0' or room <= 0
local ended = redis.call('HLEN', record(lease)) == 0
if ended then
  redis.call('ZREM', LEASES, lease)
  redis.call('HDEL', GRANTS, lease)
end
if gone > 0 then
  redis.call('INCR', REVISION)
end
return ended and 1 or 0
