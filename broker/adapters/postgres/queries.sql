-- Every statement that a running broker sends, by name. All times are the database's.

-- name: find
SELECT *, clock_timestamp() AS now
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s;

-- name: lock
SELECT *, clock_timestamp() AS now
FROM token_broker.installs
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
FOR UPDATE;

-- name: page
SELECT *, clock_timestamp() AS now
FROM token_broker.installs
WHERE (plugin_id, install_id) > (%(after_plugin_id)s, %(after_install_id)s)
  AND (%(plugin_id)s::text IS NULL OR plugin_id = %(plugin_id)s)
  AND (%(company_id)s::text IS NULL OR company_id = %(company_id)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY plugin_id, install_id
LIMIT %(limit)s;

-- name: enrol
INSERT INTO token_broker.installs (plugin_id, install_id, company_id)
VALUES (%(plugin_id)s, %(install_id)s, %(company_id)s)
ON CONFLICT (plugin_id, install_id) DO NOTHING;

-- name: take_claim
UPDATE token_broker.installs
SET attempt          = attempt + 1,
    in_doubt         = true,
    claim_owner      = %(owner)s,
    claim_expires_at = clock_timestamp() + %(life)s,
    updated_at       = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING attempt;

-- name: store_pair
-- The row is locked, and the fence has been passed. A later attempt keeps its claim and its doubt.
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
    stored_attempt           = %(stored_attempt)s,
    in_doubt                 = in_doubt AND attempt <> %(stored_attempt)s,
    claim_owner              = CASE WHEN attempt <> %(stored_attempt)s THEN claim_owner END,
    claim_expires_at         = CASE WHEN attempt <> %(stored_attempt)s THEN claim_expires_at END,
    failure_kind             = NULL,
    failure_count            = 0,
    failed_at                = NULL,
    retry_at                 = NULL,
    webhook_digest           = coalesce(%(webhook_digest)s, webhook_digest),
    updated_at               = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING *, clock_timestamp() AS now;

-- name: lose_fence
UPDATE token_broker.installs
SET in_doubt   = true,
    updated_at = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING *, clock_timestamp() AS now;

-- name: resolve
-- The row is locked, and no later attempt has begun.
UPDATE token_broker.installs
SET state            = %(state)s,
    in_doubt         = %(in_doubt)s,
    claim_owner      = NULL,
    claim_expires_at = NULL,
    failure_kind     = %(kind)s,
    failure_count    = failure_count + 1,
    failed_at        = clock_timestamp(),
    retry_at         = clock_timestamp() + %(retry_in)s,
    updated_at       = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING *, clock_timestamp() AS now;

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
RETURNING *, clock_timestamp() AS now;

-- name: bury
-- The attempt number and the fence move on together, so that no attempt under way can store.
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
    in_doubt                 = false,
    claim_owner              = NULL,
    claim_expires_at         = NULL,
    failure_kind             = NULL,
    failure_count            = 0,
    failed_at                = NULL,
    retry_at                 = NULL,
    updated_at               = clock_timestamp()
WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s
RETURNING *, clock_timestamp() AS now;

-- name: schema_version
SELECT max(version) AS version FROM token_broker.migrations;
