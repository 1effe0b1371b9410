-- All leases that exist.
return redis.call('ZRANGEBYSCORE', LEASES, string.format('%.0f', now), '+inf')
