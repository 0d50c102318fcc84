-- Ends a job, with what its route answered or without: the first end counts, and a later one changes nothing.
--
-- KEYS  1 prefix
-- ARGV  1 id   2 status: succeeded, failed, cancelled, expired   3 status of the reply, 0 for none   4 its headers, packed
--       5 its body   6 ms for which all that is kept   7 webhook, packed, or ''
-- Reply 1 ended by this call, else 0

return end_job(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]) and 1 or 0
