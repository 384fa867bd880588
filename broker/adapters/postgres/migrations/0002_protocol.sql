-- What the whole refresh protocol needs: claims told apart also after a failover, a sweep that finds what is due,
-- rejected tokens, how the last attempt ended; and what the replicas know together of Envoy's health.

ALTER TABLE token_broker.installs
    -- Random, of the newest attempt and of the one that stored: a database that forgot commits may number two alike.
    ADD COLUMN claim_id        uuid,
    ADD COLUMN stored_claim_id uuid,
    -- Up to this number no attempt may end the doubt: an older one's pair came while it was under way.
    ADD COLUMN doubted_attempt bigint NOT NULL DEFAULT 0,
    -- When the next attempt is wanted, whether or not somebody asks for a token; NULL if none is.
    ADD COLUMN due_at timestamptz,
    -- The newest generation that a caller reported as rejected by Envoy, and when.
    ADD COLUMN rejected_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected_at         timestamptz,
    -- A verified route webhook came after Envoy had refused or the app was uninstalled, and Envoy has not answered yet.
    ADD COLUMN exchange_owed boolean NOT NULL DEFAULT false,
    -- How the last attempt ended.
    ADD COLUMN last_ending   text,
    ADD COLUMN last_ended_at timestamptz;

-- What the previous release left: due as its tokens are, at once if in doubt, behind a claim that still stands.
UPDATE token_broker.installs
SET due_at = CASE WHEN in_doubt THEN coalesce(claim_expires_at, retry_at, clock_timestamp())
                  ELSE coalesce(retry_at, refresh_due_at, clock_timestamp()) END
WHERE state IN ('provisional', 'active');

CREATE INDEX installs_due ON token_broker.installs (due_at) WHERE due_at IS NOT NULL;

-- One record an app: see broker/domain/provider_health.py.
CREATE TABLE token_broker.provider_health (
    plugin_id    text COLLATE "C" PRIMARY KEY,
    level        double precision NOT NULL,
    level_at     timestamptz      NOT NULL,
    failing      integer          NOT NULL DEFAULT 0,
    last_failing text             NOT NULL DEFAULT '',
    kind         text             NOT NULL DEFAULT '',
    openings     integer          NOT NULL DEFAULT 0,
    open_until   timestamptz,
    probe_until  timestamptz,
    closed_at    timestamptz
);
