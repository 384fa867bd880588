-- Every statement that a running broker or `token-broker keys` sends, by name. All times are the database's.
-- {seen} and {row} stand for what the first two list: what a look-up tells; and with what the protocol needs besides, a
-- whole row, save its history, which only people read.

-- name: seen
plugin_id, install_id, company_id, state, generation, token_type, access_token,
issued_at, expires_at, refresh_due_at, refresh_token_expires_at, attempt, in_doubt, claim_expires_at, exchange_owed,
rejected_generation, failure_kind, failure_count, failed_at, retry_at, last_ending, last_ended_at,
noted_generation, stored_traceparent, created_at, updated_at, clock_timestamp() AS now

-- name: row
{seen}, refresh_token, stored_attempt, doubted_attempt, claim_owner, claim_id, stored_claim_id, rejected_at,
webhook_digest, noted_attempt, claim_purpose, claim_began_at, claim_traceparent, presentations

-- name: find
SELECT {seen}
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: standings
SELECT plugin_id, install_id, generation, state, rejected_generation
FROM token_broker.installs
JOIN unnest(%(plugin_ids)s::text[], %(install_ids)s::text[]) AS named (plugin_id, install_id)
USING (plugin_id, install_id);

-- name: lock
SELECT {row}
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
FOR UPDATE;

-- name: lock_unless_locked
SELECT {row}
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
FOR UPDATE SKIP LOCKED;

-- name: due
-- statement_timestamp() is stable, so that the index ends the search; clock_timestamp() would read all of it.
SELECT plugin_id, install_id, generation, statement_timestamp() - due_at AS overdue
FROM token_broker.installs
WHERE due_at <= statement_timestamp() AND plugin_id <> ALL (%(except_for)s)
ORDER BY due_at
LIMIT %(limit)s;

-- name: enrol
-- The exchange follows at once. Should its process die first, or Envoy be away for as long as the webhook is sent
-- again, the sweep finds the install after a grace.
INSERT INTO token_broker.installs (plugin_id, install_id, company_id, due_at)
VALUES (%(plugin_id)s, %(install_id)s, %(company_id)s, clock_timestamp() + %(grace)s)
ON CONFLICT (plugin_id, install_id) DO UPDATE
SET exchange_owed = true,
    due_at        = excluded.due_at,
    updated_at    = clock_timestamp()
WHERE installs.state IN ('reauthorization_required', 'uninstalled');

-- name: take_claim
-- Due again when the claim ends: if its holder is never heard of, another attempt must follow. `ended`: the record of
-- the claim before, if that is what became of it.
UPDATE token_broker.installs
SET attempt            = %(attempt)s,
    claim_id           = %(claim_id)s,
    in_doubt           = true,
    claim_owner        = %(owner)s,
    claim_expires_at   = clock_timestamp() + %(life)s,
    due_at             = clock_timestamp() + %(life)s,
    noted_attempt      = %(attempt)s,
    claim_purpose      = %(purpose)s,
    claim_began_at     = clock_timestamp(),
    claim_traceparent  = %(traceparent)s,
    noted_generation   = generation,
    stored_traceparent = CASE WHEN noted_generation = generation THEN stored_traceparent END,
    presentations      = %(presentations)s,
    recent_attempts    = CASE WHEN claim_owner IS NULL THEN recent_attempts
                              ELSE (%(ended)s || recent_attempts) - %(kept)s::int END,
    updated_at         = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: store_pair
-- The row is locked, and the fence has been passed. `newest`: this is the newest attempt, and the only one of its
-- number; else another's claim stays, and no attempt until now may end the doubt. `settled`: nor is this one doubted.
UPDATE token_broker.installs
SET state                    = %(state)s,
    company_id               = %(company_id)s,
    generation               = %(generation)s,
    token_type               = %(token_type)s,
    access_token             = %(access_token)s,
    refresh_token            = %(refresh_token)s,
    issued_at                = %(issued_at)s,
    expires_at               = %(expires_at)s,
    refresh_due_at           = %(refresh_due_at)s,
    refresh_token_expires_at = %(refresh_token_expires_at)s,
    attempt                  = greatest(attempt, %(attempt)s),
    stored_attempt           = %(attempt)s,
    stored_claim_id          = %(claim_id)s,
    in_doubt                 = NOT %(settled)s,
    doubted_attempt          = CASE WHEN %(newest)s THEN doubted_attempt ELSE greatest(attempt, %(attempt)s) END,
    claim_owner              = CASE WHEN NOT %(newest)s THEN claim_owner END,
    claim_expires_at         = CASE WHEN NOT %(newest)s THEN claim_expires_at END,
    due_at                   = CASE WHEN %(settled)s THEN %(refresh_due_at)s
                                    WHEN %(newest)s THEN clock_timestamp()
                                    ELSE greatest(claim_expires_at, clock_timestamp()) END,
    exchange_owed            = false,
    rejected_generation      = 0,
    failure_kind             = NULL,
    failure_count            = 0,
    failed_at                = NULL,
    retry_at                 = NULL,
    webhook_digest           = coalesce(%(webhook_digest)s, webhook_digest),
    noted_generation         = %(generation)s,
    stored_traceparent       = %(traceparent)s,
    presentations            = 0,
    recent_attempts          = (%(ended)s || recent_attempts) - %(kept)s::int,
    last_ending              = %(ending)s,
    last_ended_at            = clock_timestamp(),
    updated_at               = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: lose_fence
-- Which of the two pairs Envoy issued later nobody knows, also if another attempt is about to store. When it is told
-- again, since the first time's fate was unknown, one record of it does.
UPDATE token_broker.installs
SET in_doubt        = true,
    doubted_attempt = attempt,
    due_at          = CASE WHEN state IN ('provisional', 'active')
                           THEN greatest(claim_expires_at, clock_timestamp()) END,
    recent_attempts = CASE WHEN recent_attempts @> %(same)s THEN recent_attempts
                           ELSE (%(ended)s || recent_attempts) - %(kept)s::int END,
    updated_at      = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: resolve
-- The row is locked, and this is still the newest attempt.
UPDATE token_broker.installs
SET state            = %(state)s,
    in_doubt         = %(in_doubt)s,
    exchange_owed    = exchange_owed AND NOT %(answered)s,
    claim_owner      = NULL,
    claim_expires_at = NULL,
    due_at           = %(due_at)s,
    failure_kind     = %(kind)s,
    failure_count    = failure_count + 1,
    failed_at        = clock_timestamp(),
    retry_at         = clock_timestamp() + %(retry_in)s,
    presentations    = %(presentations)s,
    recent_attempts  = (%(ended)s || recent_attempts) - %(kept)s::int,
    last_ending      = %(kind)s,
    last_ended_at    = clock_timestamp(),
    updated_at       = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: end_superseded
-- The row is locked, and this is still the newest attempt: it met another's pair, which is no failure.
UPDATE token_broker.installs
SET in_doubt         = %(in_doubt)s,
    claim_owner      = NULL,
    claim_expires_at = NULL,
    due_at           = %(due_at)s,
    recent_attempts  = (%(ended)s || recent_attempts) - %(kept)s::int,
    last_ending      = %(kind)s,
    last_ended_at    = clock_timestamp(),
    updated_at       = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: reject
-- The row is locked, the generation is the newest, and the cool-down is over.
UPDATE token_broker.installs
SET rejected_generation = generation,
    rejected_at         = clock_timestamp(),
    due_at              = CASE WHEN state IN ('provisional', 'active')
                               THEN greatest(claim_expires_at, retry_at, clock_timestamp()) END,
    updated_at          = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: store_provisional
-- The row is locked, and has never had a token set.
UPDATE token_broker.installs
SET generation     = %(generation)s,
    token_type     = %(token_type)s,
    access_token   = %(access_token)s,
    issued_at      = %(issued_at)s,
    expires_at     = %(expires_at)s,
    refresh_due_at = %(issued_at)s,
    updated_at     = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: bury
-- The row is locked. The attempt number and the fence move on together, so that no attempt under way can store.
UPDATE token_broker.installs
SET state                    = 'uninstalled',
    token_type               = '',
    access_token             = NULL,
    refresh_token            = NULL,
    issued_at                = NULL,
    expires_at               = NULL,
    refresh_due_at           = NULL,
    refresh_token_expires_at = NULL,
    attempt                  = attempt + 1,
    stored_attempt           = attempt + 1,
    claim_id                 = NULL,
    stored_claim_id          = NULL,
    claim_traceparent        = NULL,
    stored_traceparent       = NULL,
    presentations            = 0,
    in_doubt                 = false,
    exchange_owed            = false,
    claim_owner              = NULL,
    claim_expires_at         = NULL,
    due_at                   = NULL,
    failure_kind             = NULL,
    failure_count            = 0,
    failed_at                = NULL,
    retry_at                 = NULL,
    recent_attempts          = (%(ended)s || recent_attempts) - %(kept)s::int,
    last_ending              = coalesce(%(ending)s, last_ending),
    last_ended_at            = CASE WHEN %(ending)s::text IS NULL THEN last_ended_at ELSE clock_timestamp() END,
    updated_at               = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING {seen};

-- name: seal_page
-- Which keys seal the installs behind one: in pages, so that no statement takes longer for a larger table.
SELECT plugin_id, install_id,
       substring(access_token FROM 1 FOR %(prefix_bytes)s)  AS access_token,
       substring(refresh_token FROM 1 FOR %(prefix_bytes)s) AS refresh_token
FROM token_broker.installs
WHERE (plugin_id, install_id) > (%(after_plugin_id)s, %(after_install_id)s)
ORDER BY plugin_id, install_id
LIMIT %(limit)s;

-- name: seal_samples
-- What was sealed last and what is refreshed next, which is what was sealed first; and whatever there is.
(SELECT plugin_id, install_id, generation, access_token, refresh_token FROM token_broker.installs
 WHERE due_at IS NOT NULL ORDER BY due_at DESC LIMIT %(limit)s)
UNION ALL
(SELECT plugin_id, install_id, generation, access_token, refresh_token FROM token_broker.installs
 WHERE due_at IS NOT NULL ORDER BY due_at LIMIT %(limit)s)
UNION ALL
(SELECT plugin_id, install_id, generation, access_token, refresh_token FROM token_broker.installs
 ORDER BY plugin_id, install_id LIMIT %(limit)s);

-- name: reseal
-- The row is locked. The same tokens in the same place, so nothing else of the row changes, its times included.
UPDATE token_broker.installs
SET access_token  = %(access_token)s,
    refresh_token = %(refresh_token)s
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: abandon_tokens
-- The row is locked, and the key of its tokens is lost. Without a refresh token the next attempt mints.
UPDATE token_broker.installs
SET token_type               = '',
    access_token             = NULL,
    refresh_token            = NULL,
    issued_at                = NULL,
    expires_at               = NULL,
    refresh_due_at           = NULL,
    refresh_token_expires_at = NULL,
    due_at                   = CASE WHEN state IN ('provisional', 'active')
                                    THEN greatest(claim_expires_at, retry_at, clock_timestamp())
                                    ELSE due_at END,
    updated_at               = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: find_health
SELECT *, clock_timestamp() AS now
FROM token_broker.provider_health
WHERE plugin_id = %(plugin_id)s
FOR UPDATE;

-- name: enrol_health
INSERT INTO token_broker.provider_health (plugin_id, level, level_at)
VALUES (%(plugin_id)s, %(level)s, clock_timestamp())
ON CONFLICT (plugin_id) DO NOTHING;

-- name: write_health
UPDATE token_broker.provider_health
SET level        = %(level)s,
    level_at     = %(level_at)s,
    failing      = %(failing)s,
    last_failing = %(last_failing)s,
    kind         = %(kind)s,
    openings     = %(openings)s,
    open_until   = %(open_until)s,
    probe_until  = %(probe_until)s,
    closed_at    = %(closed_at)s
WHERE plugin_id = %(plugin_id)s;

-- name: schema_version
SELECT max(version) AS version FROM token_broker.migrations;

-- name: notify
SELECT pg_notify(%(channel)s, %(payload)s);
