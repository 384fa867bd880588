-- The statements that people's questions need, by name: lists, histories, the census (census.py). None is on the way of
-- GetToken or of a refresh.

-- name: history
SELECT recent_attempts
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: page
SELECT {seen}
FROM token_broker.installs
WHERE (plugin_id, install_id) > (%(after_plugin_id)s, %(after_install_id)s)
  AND (%(plugin_id)s::text IS NULL OR plugin_id = %(plugin_id)s)
  AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (NOT %(failing)s OR failure_kind IS NOT NULL OR state = 'reauthorization_required')
ORDER BY plugin_id, install_id
LIMIT %(limit)s;

-- name: find_healths
SELECT *, clock_timestamp() AS now
FROM token_broker.provider_health
ORDER BY plugin_id;

-- name: find_census
SELECT counted, counted_at, clock_timestamp() AS now
FROM token_broker.census;

-- name: lock_census_unless_locked
SELECT counted, counted_at, clock_timestamp() AS now
FROM token_broker.census
FOR UPDATE SKIP LOCKED;

-- name: count_installs
-- The whole table, once. `ends` in seconds: width_bucket says behind how many of them the token's end is.
SELECT plugin_id, state, failure_kind IS NOT NULL OR state = 'reauthorization_required' AS failing,
       CASE WHEN state IN ('provisional', 'active')
            THEN width_bucket(extract(epoch FROM expires_at - statement_timestamp())::float8, %(ends)s::float8[])
       END AS passed,
       count(*) AS installs
FROM token_broker.installs
GROUP BY 1, 2, 3, 4;

-- name: write_census
UPDATE token_broker.census
SET counted    = %(counted)s,
    counted_at = %(counted_at)s;
