-- Installs, their sealed tokens, and the claims on them.
-- Everything that a refresh needs stands in one row, so that one lock and one key do for all of it.

CREATE TABLE token_broker.installs (
    -- "C": pages come in one order everywhere, and no upgrade of the system's collations spoils the key.
    plugin_id  text COLLATE "C" NOT NULL,
    install_id text COLLATE "C" NOT NULL,
    company_id text NOT NULL DEFAULT '',
    state      text NOT NULL DEFAULT 'provisional'
        CHECK (state IN ('provisional', 'active', 'reauthorization_required', 'uninstalled')),

    -- The newest token set. The tokens are sealed, and bound to this row and generation.
    generation               bigint NOT NULL DEFAULT 0,
    token_type               text   NOT NULL DEFAULT '',
    access_token             bytea,
    refresh_token            bytea,
    issued_at                timestamptz,
    expires_at               timestamptz,
    refresh_due_at           timestamptz,
    refresh_token_expires_at timestamptz,

    -- The claim. `attempt` numbers the attempts, `stored_attempt` is the fence, `in_doubt` the intent:
    -- see broker/service/refresher.py.
    attempt          bigint  NOT NULL DEFAULT 0,
    stored_attempt   bigint  NOT NULL DEFAULT 0,
    in_doubt         boolean NOT NULL DEFAULT false,
    claim_owner      text,
    claim_expires_at timestamptz,

    -- The last failure since the last success.
    failure_kind  text,
    failure_count integer NOT NULL DEFAULT 0,
    failed_at     timestamptz,
    retry_at      timestamptz,

    -- What tells the last route webhook that was exchanged from another.
    webhook_digest bytea,

    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    PRIMARY KEY (plugin_id, install_id),
    CONSTRAINT a_token_has_its_times CHECK (num_nulls(access_token, issued_at, expires_at, refresh_due_at) IN (0, 4)),
    CONSTRAINT a_tombstone_holds_no_token CHECK (state <> 'uninstalled' OR num_nonnulls(access_token, refresh_token) = 0)
);

CREATE INDEX installs_by_company ON token_broker.installs (company_id, plugin_id, install_id);
CREATE INDEX installs_by_state ON token_broker.installs (state, plugin_id, install_id);
