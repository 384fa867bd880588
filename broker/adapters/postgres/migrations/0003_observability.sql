-- What an operator asks at night: which attempts were made of late, in which trace a pair was fetched, how often a
-- refresh token was presented, and how many installs fare how. The release before knows nothing of these columns, and
-- leaves them as they are: `noted_attempt` and `noted_generation` say which attempt and generation they tell of.

ALTER TABLE token_broker.installs
    -- Of the attempt `noted_attempt`, while its claim stands.
    ADD COLUMN noted_attempt     bigint NOT NULL DEFAULT 0,
    ADD COLUMN claim_purpose     text,
    ADD COLUMN claim_began_at    timestamptz,
    ADD COLUMN claim_traceparent text,
    -- Of the generation `noted_generation`: the trace that it was fetched in, and how often its refresh token has
    -- been presented.
    ADD COLUMN noted_generation   bigint   NOT NULL DEFAULT 0,
    ADD COLUMN stored_traceparent text,
    ADD COLUMN presentations      smallint NOT NULL DEFAULT 0,
    -- The last attempts that are over, the newest first: see broker/domain/history.py.
    ADD COLUMN recent_attempts jsonb NOT NULL DEFAULT '[]';

-- In the words of `page`, which lists the failing ones.
CREATE INDEX installs_failing ON token_broker.installs (plugin_id, install_id)
    WHERE failure_kind IS NOT NULL OR state = 'reauthorization_required';

-- One row, which whoever counts holds locked: see broker/adapters/postgres/census.py.
CREATE TABLE token_broker.census (
    is_the_only_one boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_one),
    counted         jsonb,
    counted_at      timestamptz
);
INSERT INTO token_broker.census DEFAULT VALUES;
