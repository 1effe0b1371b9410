-- Grants the lease ARGV[1] for ARGV[2] seconds to the process with the nonce ARGV[3]. Returns 0 if it exists.
if deadline(ARGV[1]) then
  return 0
end
redis.call('ZADD', LEASES, string.format('%.0f', now + ARGV[2] * 1000), ARGV[1])
redis.call('HSET', GRANTS, ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
