-- The TTL in seconds of the lease ARGV[1], the ms until it ends, and the keys that were put on it. Nothing if it has
-- ended.
local at = deadline(ARGV[1])
if not at then
  return false
end
local granted = string.match(redis.call('HGET', GRANTS, ARGV[1]) or '', '^%d+')
return { tonumber(granted or 0), at - now, redis.call('HKEYS', record(ARGV[1])) }
