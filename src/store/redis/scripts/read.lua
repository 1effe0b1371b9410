-- Reads the keys from KEYS[ARGV[1]] on. Returns place, value, lease and revisions of each that exists; values are empty
-- if ARGV[2] is 'names'.
local first, names, found = tonumber(ARGV[1]), ARGV[2] == 'names', {}
for place = first, #KEYS do
  local value, lease = state(KEYS[place])
  if value then
    found[#found + 1] = place - first
    found[#found + 1] = names and '' or value
    found[#found + 1] = lease
    found[#found + 1] = redis.call('HGET', REVISIONS, KEYS[place]) or ''
  end
end
return found
